"""The OAuth token endpoint: requests for tokens, and the meaning of its errors."""

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

REUSED_CODES = frozenset({"refresh_token_reused", "invalid_grant"})
"""Errors that may mean that another process has spent the refresh token first, and has stored the next one."""
TERMINAL_CODES = REUSED_CODES | {
    "access_denied",
    "app_session_terminated",
    "invalid_client",
    "invalid_refresh_token",
    "refresh_token_expired",
    "refresh_token_invalidated",
    "unauthorized_client",
}
MAX_MESSAGE_LENGTH = 200
TIMEOUT_SECONDS = 30.0
"""Timeout for the connection, and for each read."""


@dataclass(frozen=True)
class Grant:
    """The tokens that the endpoint issued. All but the access token may be missing."""

    access_token: str
    refresh_token: str | None
    id_token: str | None
    expires_in: float | None
    """Lifetime of the access token in seconds."""


class GrantRefused(Exception):
    """The endpoint refuses a refresh token or code permanently."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code


def refresh_grant(
    http: HttpClient, url: str, profile: Profile, refresh_token: str, reason: str, timeout: float = TIMEOUT_SECONDS
) -> Grant:
    """Spend a refresh token. As a rule it is void afterwards, and the grant holds the next one.

    :param reason: ``PROACTIVE`` or ``UNAUTHORIZED``; profiles from 0.169 send it.
    :param timeout: seconds for each step of the exchange.
    :raises GrantRefused: the endpoint refuses the token permanently.
    :raises GatewayError: 503, the endpoint cannot be reached, or sends no valid response.
    """
    values = {**profile.static_values, "refresh_token": refresh_token, "refresh_reason": reason}
    headers, body = profile.token_headers.render(values), jsontext.dumps(profile.token_body.render(values))
    try:
        return _request_grant(http, url, headers, body, timeout, refresh_token)
    except _EndpointUnavailable as error:
        raise refresh_unavailable(str(error)) from error


def exchange_code(
    http: HttpClient,
    url: str,
    profile: Profile,
    code: str,
    redirect_uri: str,
    verifier: str,
    timeout: float = TIMEOUT_SECONDS,
) -> Grant:
    """Exchange the authorization code of a sign-in for tokens.

    :param verifier: the PKCE code verifier; the sign-in page got its digest.
    :raises GrantRefused: the code is not valid.
    :raises GatewayError: 503, the endpoint cannot be reached, or sends no valid response.
    """
    values = profile.static_values
    form = {  # no ``state``: the endpoint refuses parameters that it does not expect
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "client_id": values["client_id"],
        "code_verifier": verifier,
    }
    headers = {**profile.token_headers.render(values), "content-type": "application/x-www-form-urlencoded"}
    try:
        return _request_grant(http, url, headers, urlencode(form).encode(), timeout, code)
    except _EndpointUnavailable as error:
        message = f"The sign-in cannot be completed now. {error}"
        raise GatewayError(503, message, code="codex_sign_in_unavailable") from error


class _EndpointUnavailable(Exception):
    """The endpoint sent no valid response. The message is a sentence that says why."""


def _request_grant(
    http: HttpClient, url: str, headers: Mapping[str, str], body: bytes, timeout: float, secret: str
) -> Grant:
    try:
        response = http.fetch("POST", url, headers, body, timeout)
    except GatewayError as error:
        raise _EndpointUnavailable(error.message) from error
    payload = _parse_object(response)
    if response.status_code != 200:
        code, message = _parse_error(payload)
        if response.status_code == 401 or code in TERMINAL_CODES:
            raise GrantRefused(code or "unauthorized", message.replace(secret, "***")[:MAX_MESSAGE_LENGTH])
        raise _EndpointUnavailable(f"It answered {response.status_code}{f' ({code})' if code else ''}.")
    access_token = _text(payload, "access_token")
    if not access_token:
        raise _EndpointUnavailable("Its answer holds no access token.")
    expires_in = payload.get("expires_in")
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float)) or not 0 < expires_in < 2**31:
        expires_in = None
    return Grant(access_token, _text(payload, "refresh_token"), _text(payload, "id_token"), expires_in)


def refresh_unavailable(reason: str) -> GatewayError:
    """The 503 for a renewal that may succeed later."""
    return GatewayError(
        503, f"The Codex access token cannot be renewed now. {reason}", code="codex_refresh_unavailable"
    )


def _parse_object(response: requests.Response) -> dict[str, Any]:
    try:
        payload = jsontext.loads(response.content)
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _parse_error(payload: dict[str, Any]) -> tuple[str, str]:
    """(code, message) of an error response: ``error`` is an object or the code, or both fields are at the top level."""
    error = payload.get("error")
    if isinstance(error, str):
        return error, _text(payload, "error_description") or ""
    inner = error if isinstance(error, dict) else payload
    return _text(inner, "code") or "", _text(inner, "message") or _text(payload, "detail") or ""


def _text(payload: dict[str, Any], name: str) -> str | None:
    value = payload.get(name)
    return value if isinstance(value, str) and value else None
