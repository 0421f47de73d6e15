"""Read failures of upstreams from error bodies of many forms."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from floway_core.protocol import jsontext, sse

MAX_PAGE_BYTES = 20_000
"""Bytes of an HTML or text page that are searched for a message."""

MAX_DEPTH, MAX_REASONS = 6, 20
"""Levels of objects around the innermost error, and errors of a list that are read."""

_STATUS_OF_CODE = tuple(
    (re.compile(pattern, re.IGNORECASE), status)
    for pattern, status in (
        (r"rate.?limit|quota|limit_reached|usage.?(cap|not)|too.?many.?requests|resource.?exhausted|throttl", 429),
        (r"arrear|insufficient.?(credit|balance|fund)|(credit|balance).{0,20}(too.?low|exhaust|deplet)|_402$", 402),
        (r"overload|unavailable|slow_down|no_capacity|server_busy", 503),
        (r"context.?(length|window)|max_tokens|invalid_(prompt|type|value)|bad.?request|invalid.?(request|arg)", 400),
        (r"value_error|validation|unsupported|unprocessable|(string|array)_above|missing_required", 400),
        (r"content.?(policy|filter)|(policy|safety).?violation", 400),
        (r"auth(?!or)|api.?key|credential|(token|session)_(expired|invalid|revoked|terminated)", 401),
        (r"permission|forbidden|access.?denied|deactivated|billing|payment", 403),
        (r"not.?found|unknown_model|no_such", 404),
        (r"too.?large", 413),
        (r"time.?out|timed.?out|deadline", 504),
    )
)
"""Patterns for the codes and types of many APIs, and the HTTP status of each. The first match wins; without one it is
502."""

_CREDENTIAL = r"(api.?key|credential|(access|bearer|auth\w*).?token)"
_STATUS_OF_MESSAGE = tuple(
    (re.compile(pattern, re.IGNORECASE), status)
    for pattern, status in (
        (r"context.?(length|window|size)|prompt is too long", 400),
        (r"rate.?limits?(ed)?\b.{0,40}(exceed|reach|hit)|(exceed|reach|hit).{0,40}(rate|usage|request).?limit", 429),
        (r"(exceed|reach|hit|out of|insufficient).{0,30}\bquota|quota.{0,30}(exceed|reach|exhaust)", 429),
        (r"too many requests|\bslow down\b|\brate.?limited\b|usage limit", 429),
        (rf"\b(incorrect|invalid|missing|expired|no)\b.{{0,15}}{_CREDENTIAL}", 401),
        (rf"{_CREDENTIAL}.{{0,25}}\b(invalid|incorrect|missing|expired|not valid)\b", 401),
        (r"insufficient.?(credit|balance|fund)|(credit|balance).{0,20}(too low|exhausted|depleted)", 402),
    )
)
"""Patterns for messages of failures without a known code. They cover only the statuses that decide which upstream is
tried next, or whether the request is wrong."""

_STATUS_OF_PHRASE: dict[str, int] = {
    HTTPStatus(status).phrase.lower(): status
    for status in (400, 401, 402, 403, 404, 408, 413, 422, 429, *range(500, 505))
}
"""Some servers send the phrase of a status instead of a code or a message, such as ``Too Many Requests``."""

_TYPE_OF_STATUS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

NO_REASON = "The upstream gave no reason."

_STANDARD_FIELDS = ("message", "type", "param", "code", "error", "sequence_number")
_MESSAGE_FIELDS = (
    "message",
    "msg",
    "detail",
    "error_message",
    "error_description",
    "description",
    "Message",
    "reason",
    "title",
)
_CODE_FIELDS = ("code", "error_code", "errcode", "status")
_STATUS_FIELDS = ("status_code", "statusCode", "http_status", "status", "code")
_NESTING_FIELDS = ("errors", "detail", "details", "response", "fault", "exception", "data")
"""Fields of an object without a message that may contain the object with it."""

_MEANINGLESS_CODES = ("error", "failed", "failure", "fail")


@dataclass(frozen=True)
class Failure:
    """A failure of an upstream."""

    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int = 502
    """The corresponding HTTP status, 400 to 599."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the upstream's error object."""
    siblings: Mapping[str, Any] = field(default_factory=dict)
    """Fields beside the upstream's error object."""

    def error_object(self) -> dict[str, Any]:
        """Build OpenAI's error object (``message``, ``type``, ``param``, ``code``) with the upstream's other fields."""
        return {
            **self.extra,
            "message": self.message,
            "type": self.type or default_type(self.status),
            "param": self.param,
            "code": self.code,
        }

    def event_fields(self) -> dict[str, Any]:
        """Build the fields of an ``error`` event: the error twice, where the clients look for it."""
        error = self.error_object()
        return {"code": error["code"], "message": error["message"], "param": error["param"], "error": error}


def default_type(status: int) -> str:
    """Return OpenAI's error type for an HTTP status."""
    return _TYPE_OF_STATUS.get(status) or ("invalid_request_error" if status < 500 else "server_error")


def read_failure(payload: Any, status: int | None = None) -> Failure | None:
    """Read the failure that a JSON value of an upstream reports.

    It may have OpenAI's form or other forms of upstreams: a text or a list instead of the error object, nested
    error objects, ``{"detail"}``, ``{"code", "msg"}``, ``{"object": "error"}``, RFC 9457 and the like.

    :param status: HTTP status of the response; None if it reports no failure itself, as for a 200 or an event.
    :returns: None if the value reports no failure.
    """
    location = _find_error(payload, 0)
    if location is None:
        return None
    error, siblings = location
    message, code = _read_message(error), _read_code(error) or _read_code(siblings)
    error_type = error.get("type") if isinstance(error.get("type"), str) and error["type"] != "error" else None
    param = error.get("param")
    return Failure(
        message=message or code or error_type or NO_REASON,
        code=code,
        type=error_type,
        param=param if isinstance(param, str) else None,
        status=status or _derive_status(error, siblings, code, error_type, message),
        extra={name: value for name, value in error.items() if name not in _STANDARD_FIELDS and value != message},
        siblings={name: value for name, value in siblings.items() if name not in (*_STANDARD_FIELDS, *_NESTING_FIELDS)}
        if siblings.get("object") != "response"
        else {},
    )


def read_failure_body(content: bytes, status: int | None = None) -> Failure | None:
    """Read the failure that a response body reports: JSON, server-sent events with JSON, an HTML page or text.

    :param status: as for ``read_failure``.
    :returns: None for a body without text.
    """
    content = content.removeprefix(b"\xef\xbb\xbf").strip()
    try:
        payload = jsontext.loads(content)
    except ValueError:
        payload = None
    if payload is None:
        for _, data in sse.iterate(content + b"\n\n"):
            try:
                failure = read_failure(jsontext.loads(data), status)
            except ValueError:
                continue
            if failure:
                return failure
    elif failure := read_failure(payload, status):
        return failure
    text = visible_text(content)
    return Failure(text, status=status or 502) if text else None


def visible_text(content: bytes) -> str:
    """Return the first visible text of an HTML or text page, at most 500 characters."""
    page = content[:MAX_PAGE_BYTES].decode("utf-8", "replace")
    page = re.sub(r"(?is)<(script|style|head)\b.*?</\1>|<!--.*?-->|<[^>]*>", " ", page)
    return " ".join(html.unescape(page).split())[:500]


# ------------------------------------------------------------------------------------------------- finding the error
_ErrorLocation = tuple[dict[str, Any], dict[str, Any]]
"""The innermost error object, and the object around it (empty if there is none)."""


def _find_error(value: Any, depth: int) -> _ErrorLocation | None:
    """Find the innermost error object.

    :param depth: levels of objects around ``value``.
    """
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        return _find_error_in_text(value, depth) if value.strip() else None
    if isinstance(value, list):
        return _find_error_in_list(value, depth)
    return _find_error_in_object(value, depth) if isinstance(value, dict) else None


def _find_error_in_object(value: dict[str, Any], depth: int) -> _ErrorLocation | None:
    inner, message = value.get("error"), _read_message(value)
    if isinstance(inner, str) and message:  # OAuth: ``error`` is the code
        return {**value, "code": _read_code(value) or inner}, {}
    if inner and (location := _find_error(inner, depth + 1)):
        return location[0], location[1] or value
    if message or value.get("type") == "error" or value.get("object") == "error":
        return value, {}
    for name in _NESTING_FIELDS:
        if value.get(name) and (location := _find_error(value[name], depth + 1)):
            return location[0], location[1] or value
    is_response = value.get("object") == "response" and not inner
    if isinstance(inner, dict) or (depth and _read_code(value) and not is_response):
        return (inner or value), value
    return None


def _find_error_in_text(text: str, depth: int) -> _ErrorLocation:
    """Return a text as the message, or the error that it contains as JSON."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            location = _find_error(jsontext.loads(text.encode("utf-8", "replace")), depth + 1)
        except ValueError:
            location = None
        if location:
            return location
    return {"message": text}, {}


def _find_error_in_list(values: list[Any], depth: int) -> _ErrorLocation | None:
    """Return the first error of a list, with the messages of all."""
    locations = (_find_error(value, depth + 1) for value in values[:MAX_REASONS])
    errors = [location for location in locations if location]
    if not errors:
        return None
    first_error, siblings = errors[0]
    messages = [_message_with_field(error) for error, _ in errors]
    return {**first_error, "message": "; ".join(message for message in messages if message)}, siblings


def _message_with_field(error: Mapping[str, Any]) -> str | None:
    """Return the message of an error, after the path of the field if it is a validation error."""
    message, path = _read_message(error), error.get("loc")
    if message and isinstance(path, list) and path:
        return f"{'.'.join(map(str, path))}: {message}"
    return message


def _read_message(error: Mapping[str, Any]) -> str | None:
    return next(
        (error[name] for name in _MESSAGE_FIELDS if isinstance(error.get(name), str) and error[name].strip()), None
    )


def _read_code(error: Mapping[str, Any]) -> str | None:
    """Return the code of an error; a name takes precedence over a number."""
    values = [error.get(name) for name in _CODE_FIELDS]
    names = [value for value in values if isinstance(value, str) and value.strip() and not value.isdigit()]
    names = [name for name in names if name.lower() not in _MEANINGLESS_CODES]
    numbers = [str(value) for value in values if value and isinstance(value, int | str) and type(value) is not bool]
    return next((value for value in (*names, *numbers) if value.lower() not in _MEANINGLESS_CODES), None)


def _derive_status(
    error: Mapping[str, Any], siblings: Mapping[str, Any], code: str | None, error_type: str | None, message: str | None
) -> int:
    """Return the HTTP status that the error states, or that matches its code, type or message; 502 if none does."""
    for source in (error, siblings):
        for name in _STATUS_FIELDS:
            number: Any = source.get(name)
            number = int(number) if isinstance(number, str) and re.fullmatch(r"\d{3}", number) else number
            if isinstance(number, int) and 400 <= number < 600:
                return int(number)
    for text in (code, error_type, message):
        if text and (status := _STATUS_OF_PHRASE.get(text.strip(" .!").lower())):
            return status
    for text in (code, error_type):
        for pattern, status in _STATUS_OF_CODE:
            if text and pattern.search(text):
                return status
    return next((status for pattern, status in _STATUS_OF_MESSAGE if message and pattern.search(message[:500])), 502)
