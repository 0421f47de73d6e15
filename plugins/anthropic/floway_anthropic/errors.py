"""Errors in the form of the Messages API, and those of upstreams in that form."""

from collections.abc import Mapping
from typing import Any

from floway_anthropic.client.requests import ThreadUnsupported
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext, sse
from floway_core.protocol.failures import NO_REASON, read_failure

TYPE_OF_STATUS: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Source: https://docs.anthropic.com/en/api/errors. Other statuses: see ``error_type``."""

PIVOT_FIELDS = ("input", "instructions", "text", "max_output_tokens", "reasoning", "include")
"""Fields of the Responses API that a request of the Messages API does not have."""


def error_type(status: int) -> str:
    """Return the type for an HTTP status."""
    return TYPE_OF_STATUS.get(status) or ("invalid_request_error" if status < 500 else "api_error")


def error_body(error: GatewayError, request_id: str) -> dict[str, Any]:
    """Convert an error."""
    return _body(error.status, _message(error.message, error.param), request_id, _details(error))


def error_event(error: GatewayError, request_id: str) -> bytes:
    """Return the event that ends a stream with an error."""
    return sse.encode("error", jsontext.dumps(error_body(error, request_id)))


def encode_failure(event: Mapping[str, Any], request_id: str) -> bytes:
    """Convert an ``error`` or ``response.failed`` event of the Responses API."""
    response = event.get("response")
    failure = read_failure({"error": response.get("error")} if isinstance(response, dict) else dict(event))
    status, message = (failure.status, failure.message) if failure else (500, NO_REASON)
    return sse.encode("error", jsontext.dumps(_body(status, message, request_id, {})))


def _body(status: int, message: str, request_id: str, details: Mapping[str, Any]) -> dict[str, Any]:
    error = {"type": error_type(status), "message": message, **details}
    return {"type": "error", "error": error, "request_id": request_id}


def _message(message: str, param: str | None) -> str:
    """Return a message that names the field, because an error of the Messages API has no ``param``."""
    if not param or param in message or param.partition(".")[0].partition("[")[0] in PIVOT_FIELDS:
        return message
    return f"{param}: {message}"


def _details(error: GatewayError) -> dict[str, Any]:
    """Return ``details`` for clients: the SDKs resend a whole conversation when they read this code."""
    if error.code != ThreadUnsupported.CODE:
        return {}
    return {"details": {"error_code": error.code, "unsupported": []}}
