"""Who is asking: the API key of a request."""

from flask import Request

from floway_core.contexts import ApiKey
from floway_core.errors import GatewayError
from floway_core.gateway import Gateway
from floway_core.store import keys


def authenticate(gateway: Gateway, request: Request) -> ApiKey:
    """The key given as ``Authorization: Bearer`` or ``x-api-key``.

    :raises GatewayError: 401 ``invalid_api_key``.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else ""
    given = given or request.headers.get("x-api-key", "").strip()
    if not given:
        raise _refusal("No API key given: send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'.")
    key = keys.recognise(gateway.services.database, given)
    if key is None:
        raise _refusal("The API key is unknown or revoked.")
    return key


def _refusal(message: str) -> GatewayError:
    return GatewayError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
