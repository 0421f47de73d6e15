"""Sending a prompt to a model, as an API key would."""

import json
import time
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response

from floway_core.administration import keys, models
from floway_core.web import current_gateway
from floway_core.web.acting import post_as
from floway_dashboard.forms import Form
from floway_dashboard.page import page
from floway_dashboard.state import current_services

blueprint = Blueprint("playground", __name__, url_prefix="/playground")

PATH = "/v1/responses"


@dataclass(frozen=True)
class Reply:
    """The answer of a model."""

    text: str
    error: str
    """Empty if the request succeeded."""
    seconds: float
    input_tokens: int | None = None
    output_tokens: int | None = None


@blueprint.get("")
def index() -> Response:
    """Show the form."""
    return _show(Form())


@blueprint.post("")
def ask() -> Response:
    """Send the prompt, and show the whole answer on the same page."""
    form = Form.sent()
    body = _request_body(form)
    if form.errors:
        return _show(form, status=400)
    started = time.monotonic()
    answer = post_as(form.text("key"), PATH, body)
    content = b"".join(answer.iter_encoded())
    answer.close()
    return _show(form, _read_reply(content, time.monotonic() - started))


@blueprint.post("/stream")
def stream() -> Response:
    """Send the prompt, and relay the events of the answer as they arrive."""
    form = Form.sent()
    body = _request_body(form)
    if form.errors:
        message = next(iter(form.errors.values()))
        return Response(json.dumps({"error": {"message": message}}), 400, mimetype="application/json")
    return post_as(form.text("key"), PATH, {**body, "stream": True})


def _show(form: Form, reply: Reply | None = None, status: int = 200) -> Response:
    now = time.time()
    rows = keys.all_rows(current_services().database)
    names = [row.name for row in rows if row.revoked_at is None and (row.expires_at is None or row.expires_at > now)]
    offered = [model.id for model in models.list_models(current_gateway()).models]
    return page(
        "dashboard/playground.html",
        title="Playground",
        status=status,
        form=form,
        reply=reply,
        keys=names,
        models=sorted(offered),
    )


def _request_body(form: Form) -> dict[str, Any]:
    """Return the request to send; what is missing is noted in ``form``."""
    for name, message in (("key", "Choose a key."), ("model", "Choose a model."), ("prompt", "Enter a prompt.")):
        if not form.text(name):
            form.errors[name] = message
    body = {"model": form.text("model"), "input": form.text("prompt"), "store": False}
    return {**body, "instructions": form.text("instructions")} if form.text("instructions") else body


def _read_reply(content: bytes, seconds: float) -> Reply:
    try:
        answer = json.loads(content)
    except ValueError:
        return Reply("", "The gateway's answer is not JSON.", seconds)
    if error := answer.get("error"):
        return Reply("", str(error.get("message") or "The request failed."), seconds)
    parts = [part for item in answer.get("output") or () for part in item.get("content") or ()]
    used = answer.get("usage") or {}
    text = "".join(str(part.get("text", "")) for part in parts)
    return Reply(text, "", seconds, used.get("input_tokens"), used.get("output_tokens"))
