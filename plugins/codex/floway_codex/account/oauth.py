"""The token endpoint: getting tokens and renewing them, and what its refusals mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import requests

from floway_codex.wire.profile import Profile
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.upstream import HttpClient

PROACTIVE = "proactive_expiry"
UNAUTHORIZED = "unauthorized_recovery"

RACED = frozenset({"refresh_token_reused", "invalid_grant"})
"""Somebody else may have used the refresh token first, and then has stored the next one."""
TERMINAL = RACED | {
    "access_denied",
    "app_session_terminated",
    "invalid_client",
    "invalid_refresh_token",
    "refresh_token_expired",
    "refresh_token_invalidated",
    "unauthorized_client",
}
LONGEST_MESSAGE = 200
TIMEOUT = 30.0
"""Seconds for connecting, and for each read."""


@dataclass(frozen=True)
class Grant:
    """What the token endpoint gave. All but the access token may be missing."""

    access_token: str
    refresh_token: str | None
    id_token: str | None
    expires_in: float | None
    """Seconds."""


class GrantRefused(Exception):
    """The endpoint refuses a refresh token or code, and trying again will not help."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code


def refresh(
    http: HttpClient, url: str, profile: Profile, refresh_token: str, reason: str, timeout: float = TIMEOUT
) -> Grant:
    """Spend a refresh token: as a rule the answer holds the next one, and this one is void.

    :param reason: ``PROACTIVE`` or ``UNAUTHORIZED``; profiles from 0.169 send it.
    :param timeout: seconds for each step of the exchange.
    :raises GrantRefused: for good.
    :raises GatewayError: 503, the endpoint cannot be reached, is out of order or answers nonsense.
    """
    known = {**profile.known, "refresh_token": refresh_token, "refresh_reason": reason}
    headers, body = profile.token_headers.render(known), jsontext.dumps(profile.token_body.render(known))
    try:
        return _ask(http, url, headers, body, timeout, refresh_token)
    except _NoAnswer as why:
        raise unreachable(str(why)) from why


def exchange(
    http: HttpClient, url: str, profile: Profile, code: str, redirect_uri: str, verifier: str, timeout: float = TIMEOUT
) -> Grant:
    """Spend the code that a sign-in through the browser ends with.

    :param verifier: whose digest the sign-in began with (PKCE).
    :raises GrantRefused: the code is void.
    :raises GatewayError: 503, the endpoint cannot be reached, is out of order or answers nonsense.
    """
    known = profile.known
    form = {  # no ``state``: the endpoint refuses parameters that it does not expect
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "client_id": known["client_id"],
        "code_verifier": verifier,
    }
    headers = {**profile.token_headers.render(known), "content-type": "application/x-www-form-urlencoded"}
    try:
        return _ask(http, url, headers, urlencode(form).encode(), timeout, code)
    except _NoAnswer as why:
        message = f"The sign-in cannot be completed now. {why}"
        raise GatewayError(503, message, code="codex_sign_in_unavailable") from why


class _NoAnswer(Exception):
    """The endpoint gave no answer that means anything. The message says why, and is a sentence."""


def _ask(http: HttpClient, url: str, headers: Mapping[str, str], body: bytes, timeout: float, spent: str) -> Grant:
    try:
        response = http.fetch("POST", url, headers, body, timeout)
    except GatewayError as error:
        raise _NoAnswer(error.message) from error
    answer = _json(response)
    if response.status_code != 200:
        code, message = _reason(answer)
        if response.status_code == 401 or code in TERMINAL:
            raise GrantRefused(code or "unauthorized", message.replace(spent, "***")[:LONGEST_MESSAGE])
        raise _NoAnswer(f"It answered {response.status_code}{f' ({code})' if code else ''}.")
    access_token = _text(answer, "access_token")
    if not access_token:
        raise _NoAnswer("Its answer holds no access token.")
    expires_in = answer.get("expires_in")
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float)) or not 0 < expires_in < 2**31:
        expires_in = None
    return Grant(access_token, _text(answer, "refresh_token"), _text(answer, "id_token"), expires_in)


def unreachable(why: str) -> GatewayError:
    """The 503 for a refresh that may work later."""
    return GatewayError(503, f"The Codex access token cannot be renewed now. {why}", code="codex_refresh_unavailable")


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        answer = jsontext.loads(response.content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _reason(answer: dict[str, Any]) -> tuple[str, str]:
    """(code, message) of a refusal: ``error`` is an object, or the code itself, or code and message are on top."""
    error = answer.get("error")
    if isinstance(error, str):
        return error, _text(answer, "error_description") or ""
    inner = error if isinstance(error, dict) else answer
    return _text(inner, "code") or "", _text(inner, "message") or _text(answer, "detail") or ""


def _text(answer: dict[str, Any], name: str) -> str | None:
    value = answer.get(name)
    return value if isinstance(value, str) and value else None
