"""Authentication: the API key of a client, or the operator's admin token."""

import hashlib
import hmac
import time

from flask import Request

from floway_core.contexts import ApiKey
from floway_core.dialect import Dialect
from floway_core.errors import GatewayError
from floway_core.runtime.gateway import Gateway
from floway_core.storage import keys
from floway_core.web import current_request
from floway_core.web.slots import acquire_slot

ACTING_KEY = "floway.acting_key"
"""The key in the WSGI environment for the name of the API key on whose behalf the gateway itself makes the request
(``web.acting``). Nothing that a client sends gets there."""

AUTHENTICATED = "floway.authenticated"
"""The key in the WSGI environment of requests with a valid key or admin token."""


def authenticate() -> ApiKey:
    """Return the API key of the current request, note it for the log, and acquire a slot for the request.

    It was sent as ``Authorization: Bearer``, or where clients of the dialect send it.

    :raises GatewayError: 401 ``invalid_api_key``.
    :raises Overloaded: all slots are in use.
    """
    request = current_request()
    key = _find_key(request.gateway, request, request.dialect)
    request.log_entry.key = key.name
    request.environ[AUTHENTICATED] = True
    acquire_slot(request.environ)
    return key


def _find_key(gateway: Gateway, request: Request, dialect: Dialect) -> ApiKey:
    """:raises GatewayError: 401 ``invalid_api_key``."""
    database, acting = gateway.services.database, request.environ.get(ACTING_KEY)
    secret = _bearer_token(request) or _key_of_dialect(request, dialect)
    if not secret and acting is None:
        raise _unauthorized(f"No API key: send it as {_key_positions(dialect)}.")
    key = keys.recognise(database, secret) if acting is None else keys.recognise_name(database, acting)
    if key is None:
        raise unknown_key()
    if key.expires_at is not None and key.expires_at <= time.time():
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(key.expires_at))
        raise _unauthorized(f"The API key expired at {when} UTC.")
    return key


def authenticate_admin(gateway: Gateway, request: Request) -> None:
    """Check the admin token of the request in ``Authorization: Bearer``, and acquire a slot for the request.

    If no token is set, refuse all requests.

    :raises GatewayError: 401 ``invalid_admin_token``.
    :raises Overloaded: all slots are in use.
    """
    token, sent_token = gateway.settings.admin_token, _bearer_token(request)
    # Hashes have equal lengths, so the time of the comparison does not reveal the length of the token.
    if token is None or not hmac.compare_digest(_digest(sent_token), _digest(token)):
        message = "This needs the admin token: send it as 'Authorization: Bearer TOKEN'."
        raise _unauthorized(message, "invalid_admin_token")
    request.environ[AUTHENTICATED] = True
    acquire_slot(request.environ)


def unknown_key() -> GatewayError:
    """Return the error for a key that does not exist or was revoked."""
    return _unauthorized("The API key is unknown or revoked.")


def _bearer_token(request: Request) -> str:
    scheme, _, token = request.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _key_of_dialect(request: Request, dialect: Dialect) -> str:
    headers = (request.headers.get(name, "").strip() for name in dialect.key_headers)
    parameters = (request.args.get(name, "").strip() for name in dialect.key_parameters)
    return next(filter(None, (*headers, *parameters)), "")


def _key_positions(dialect: Dialect) -> str:
    headers = [f"'{name}: KEY'" for name in dialect.key_headers]
    parameters = [f"'?{name}=KEY'" for name in dialect.key_parameters]
    return " or as ".join(["'Authorization: Bearer KEY'", *headers, *parameters])


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _unauthorized(message: str, code: str = "invalid_api_key") -> GatewayError:
    return GatewayError(401, message, code=code, headers={"www-authenticate": "Bearer"})
