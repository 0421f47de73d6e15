"""Sending one small request as a client would, through the gateway's address."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import requests

from floway_core.client_setup import ClientSetup, SetupTarget

TIMEOUT_SECONDS = 120.0

MODELS = "/v1/models"


def check_client(setup: ClientSetup, target: SetupTarget, report: Callable[[str], None]) -> bool:
    """Ask for the models, and then for a response, and report each in a line.

    :param target: with a key.
    :returns: whether both succeeded.
    """
    models = _request(report, "GET", target.url + MODELS, {"authorization": f"Bearer {target.key}"})
    if models is None:
        return False
    names = {entry["id"] for entry in models.get("data", ()) if isinstance(entry, dict) and "id" in entry}
    if target.model not in names:
        report(f"failed  {target.model} is not among the {len(names)} models of this key: choose one with --model")
        return False
    request = setup.check(target)
    answer = _request(report, "POST", target.url + request.path, request.headers, request.body)
    return answer is not None


def _request(
    report: Callable[[str], None],
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Return the JSON object in the answer; None after a failure, which is reported."""
    started = time.monotonic()
    try:
        answer = requests.request(
            method, url, headers=dict(headers), json=body, timeout=TIMEOUT_SECONDS, allow_redirects=False
        )
    except requests.RequestException as error:
        report(f"failed  {method} {url}: no answer ({type(error).__name__}); is `floway serve` running there?")
        return None
    try:
        content = answer.json()
    except ValueError:
        content = None
    if answer.status_code != 200 or not isinstance(content, dict):
        report(f"failed  {method} {url}: {answer.status_code} {_message(content)}")
        return None
    model = f", by {body['model']}" if body and "model" in body else ""
    report(f"ok      {method} {url}: answered in {time.monotonic() - started:.1f} s{model}")
    return content


def _message(content: Any) -> str:
    error = content.get("error") if isinstance(content, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else "without a message; is it the address of Floway?"
