"""Who is asking: the API key of a request, or the operator's admin token."""

import hashlib
import hmac
import time

from flask import Request

from floway_core.contexts import ApiKey
from floway_core.errors import GatewayError
from floway_core.runtime.gateway import Gateway
from floway_core.storage import keys


def authenticate(gateway: Gateway, request: Request) -> ApiKey:
    """The key given as ``Authorization: Bearer`` or ``x-api-key``.

    :raises GatewayError: 401 ``invalid_api_key``.
    """
    given = _bearer(request) or request.headers.get("x-api-key", "").strip()
    if not given:
        raise _refusal("No API key given: send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'.")
    key = keys.recognise(gateway.services.database, given)
    if key is None:
        raise unknown_key()
    if key.expires_at is not None and key.expires_at <= time.time():
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(key.expires_at))
        raise _refusal(f"The API key expired at {when} UTC.")
    return key


def authenticate_admin(gateway: Gateway, request: Request) -> None:
    """Let in who sends the admin token as ``Authorization: Bearer``; nobody if none is set.

    :raises GatewayError: 401 ``invalid_admin_token``.
    """
    token, given = gateway.settings.admin_token, _bearer(request)
    # of the hashes, or the time taken would tell how long the token is
    if token is None or not hmac.compare_digest(_digest(given), _digest(token)):
        raise _refusal("This needs the admin token: send it as 'Authorization: Bearer TOKEN'.", "invalid_admin_token")


def unknown_key() -> GatewayError:
    """The refusal of a key that there is not, or not any more."""
    return _refusal("The API key is unknown or revoked.")


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _refusal(message: str, code: str = "invalid_api_key") -> GatewayError:
    return GatewayError(401, message, code=code, headers={"www-authenticate": "Bearer"})
