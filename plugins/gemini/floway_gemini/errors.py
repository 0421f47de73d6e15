"""Errors in Google's form, and those of upstreams in that form."""

from collections.abc import Mapping
from typing import Any

from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.protocol.failures import NO_REASON, Failure, read_failure
from floway_core.protocol.retry import retry_after

STATUS: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
"""Source: google/rpc/code.proto. Other statuses: see ``status_name``."""

PIVOT_FIELDS = ("input", "instructions", "text", "max_output_tokens", "reasoning", "include")
"""Fields of the Responses API that a request of this API does not have."""

TYPES = "type.googleapis.com/google.rpc."
MODEL_NOT_FOUND = "model_not_found"
INVALID_KEY = "invalid_api_key"
WAITING = (429, 503)
"""Statuses after which clients wait as long as the error demands."""


def status_name(status: int) -> str:
    """Return Google's name of an HTTP status."""
    return STATUS.get(status) or ("INVALID_ARGUMENT" if status < 500 else "INTERNAL")


def error_body(error: GatewayError) -> dict[str, Any]:
    """Convert an error."""
    details = []
    wait = _wait(error) if error.status in WAITING else None
    if error.status == 400 and _names_field(error):
        violations = [{"field": error.param, "description": error.message}]
        details.append({"@type": f"{TYPES}BadRequest", "fieldViolations": violations})
    if error.code == INVALID_KEY:
        info = {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        details.append({"@type": f"{TYPES}ErrorInfo", **info})
    body = _body(error.status, error.message, wait, details)
    if error.code == MODEL_NOT_FOUND:
        # If the body says 404, Gemini CLI repeats the request at once and without end. The HTTP status stays 404.
        body["error"]["code"] = 400
    return body


def failure_body(event: Mapping[str, Any]) -> dict[str, Any]:
    """Convert an ``error`` or ``response.failed`` event of the Responses API."""
    response = event.get("response")
    failure = read_failure({"error": response.get("error")} if isinstance(response, dict) else dict(event))
    failure = failure or Failure(NO_REASON, status=500)
    wait = retry_after(failure, []) if failure.status in WAITING else None
    return _body(failure.status, failure.message, wait, [])


def encode_error(body: dict[str, Any], *, is_event: bool) -> bytes:
    """Return the bytes that end a stream with an error.

    :param is_event: whether it is an event, and not plain JSON between events. Google's SDK for JavaScript, as in
        Gemini CLI, finds only plain JSON. Clients with a common reader of events, such as the AI SDK, find only events;
        and the framing of an array turns events into elements.
    """
    content = jsontext.dumps(body)
    return b"data: %b\n\n" % content if is_event else b"%b\n" % content


def _body(status: int, message: str, wait: int | None, details: list[dict[str, Any]]) -> dict[str, Any]:
    if wait is not None:
        details = [*details, {"@type": f"{TYPES}RetryInfo", "retryDelay": f"{wait}s"}]
    error = {"code": status, "message": message, "status": status_name(status)}
    return {"error": {**error, **({"details": details} if details else {})}}


def _wait(error: GatewayError) -> int | None:
    """Return the seconds for a client to wait, from the headers of an error; None if they contain none."""
    headers = {**dict(error.relayed_headers), **error.headers}
    value = headers.get("retry-after", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _names_field(error: GatewayError) -> bool:
    """Return whether an error names a field of this API, and not one of the Responses API."""
    param = error.param or ""
    first = param.partition(".")[0].partition("[")[0]
    return bool(param) and param in error.message and first not in PIVOT_FIELDS
