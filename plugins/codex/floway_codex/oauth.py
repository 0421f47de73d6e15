"""The token endpoint: renewing tokens, and what its refusals mean."""

from dataclasses import dataclass
from typing import Any

import requests

from floway_codex.profile import Profile, render, render_body
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


@dataclass(frozen=True)
class Grant:
    """What the token endpoint gave. All but the access token may be missing."""

    access_token: str
    refresh_token: str | None
    id_token: str | None
    expires_in: float | None
    """Seconds."""


class RefreshRefused(Exception):
    """The refresh token is refused, and trying again will not help."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code


def refresh(http: HttpClient, url: str, profile: Profile, refresh_token: str, reason: str) -> Grant:
    """Spend a refresh token: as a rule the answer holds the next one, and this one is void.

    :param reason: ``PROACTIVE`` or ``UNAUTHORIZED``; profiles from 0.169 send it.
    :raises RefreshRefused: for good.
    :raises GatewayError: 503, the endpoint cannot be reached, is out of order or answers nonsense.
    """
    known = {**profile.known(), "refresh_token": refresh_token, "refresh_reason": reason}
    try:
        response = http.fetch(
            "POST", url, render(profile.token_headers, known), render_body(profile.token_body, known)
        )
    except GatewayError as error:
        raise unreachable(error.message) from error
    answer = _json(response)
    if response.status_code != 200:
        code, message = _reason(answer)
        if response.status_code == 401 or code in TERMINAL:
            raise RefreshRefused(code or "unauthorized", message.replace(refresh_token, "***")[:LONGEST_MESSAGE])
        raise unreachable(f"It answered {response.status_code}{f' ({code})' if code else ''}.")
    access_token = _text(answer, "access_token")
    if not access_token:
        raise unreachable("Its answer holds no access token.")
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
