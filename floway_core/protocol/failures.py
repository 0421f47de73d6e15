"""Reading why an upstream failed, in whatever shape it says so."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from floway_core.protocol import jsontext, sse

MAX_MESSAGE_LENGTH = 20_000
"""Bytes of a page of HTML or text that are looked at."""

MAX_DEPTH, MAX_REASONS = 6, 20
"""Objects around the innermost error, and entries of a list of them."""

# Codes and types of many APIs, as what they have in common. The first match wins; what matches nothing is a 502.
_STATUS_OF_CODE = tuple(
    (re.compile(pattern, re.IGNORECASE), status)
    for pattern, status in (
        (r"rate.?limit|quota|limit_reached|too.?many.?requests|resource.?exhausted|throttl|usage_not_included", 429),
        (r"arrear|insufficient.?(credit|balance|fund)|(credit|balance).{0,20}(too.?low|exhaust|deplet)|_402$", 402),
        (r"overload|unavailable|slow_down|no_capacity|server_busy", 503),
        (r"context.?(length|window)|max_tokens|invalid_(prompt|type|value)|bad.?request|invalid.?(request|arg)", 400),
        (r"value_error|validation|unsupported|unprocessable|(string|array)_above|missing_required", 400),
        (r"content.?(policy|filter)|(policy|safety).?violation", 400),
        (r"auth(?!or)|api.?key|credential|token_(expired|invalid|revoked)|session_terminated", 401),
        (r"permission|forbidden|access.?denied|deactivated|billing|payment", 403),
        (r"not.?found|unknown_model|no_such", 404),
        (r"too.?large", 413),
        (r"time.?out|timed.?out|deadline", 504),
    )
)

# What a sentence says where there is nothing else, as far as it decides who is tried next, and who is to blame.
_SIGN_IN = r"(api.?key|credential|(access|bearer|auth\w*).?token)"
_STATUS_OF_MESSAGE = tuple(
    (re.compile(pattern, re.IGNORECASE), status)
    for pattern, status in (
        (r"context.?(length|window|size)|prompt is too long", 400),
        (r"rate.?limits?(ed)?\b.{0,40}(exceed|reach|hit)|(exceed|reach|hit).{0,40}(rate|usage|request).?limit", 429),
        (r"(exceed|reach|hit|out of|insufficient).{0,30}\bquota|quota.{0,30}(exceed|reach|exhaust)", 429),
        (r"too many requests|\bslow down\b|\brate.?limited\b|usage limit", 429),
        (rf"\b(incorrect|invalid|missing|expired|no)\b.{{0,15}}{_SIGN_IN}", 401),
        (rf"{_SIGN_IN}.{{0,25}}\b(invalid|incorrect|missing|expired|not valid)\b", 401),
        (r"insufficient.?(credit|balance|fund)|(credit|balance).{0,20}(too low|exhausted|depleted)", 402),
    )
)

_PHRASES: dict[str, int] = {
    HTTPStatus(status).phrase.lower(): status
    for status in (400, 401, 402, 403, 404, 408, 413, 422, 429, *range(500, 505))
}
"""What some servers put in the place of a code or a message: ``Unauthorized``, ``Too Many Requests``."""

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

NO_REASON = "The upstream gave no reason."

_USUAL = ("message", "type", "param", "code", "error", "sequence_number")
_MESSAGES = (
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
_CODES = ("code", "error_code", "errcode", "status")
_STATUSES = ("status_code", "statusCode", "http_status", "status", "code")
_CONTAINERS = ("errors", "detail", "details", "response", "fault", "exception", "data")
"""Where an object without a message keeps the one that has it."""

_EMPTY_CODES = ("error", "failed", "failure", "fail")


@dataclass(frozen=True)
class Failure:
    """Why an upstream failed."""

    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int = 502
    """The HTTP status that fits, 400 to 599."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the upstream's error object."""
    siblings: Mapping[str, Any] = field(default_factory=dict)
    """What stands beside the upstream's error object."""

    def error_object(self) -> dict[str, Any]:
        """OpenAI's error object (``message``, ``type``, ``param``, ``code``) with the upstream's fields beside them."""
        return {
            **self.extra,
            "message": self.message,
            "type": self.type or default_type(self.status),
            "param": self.param,
            "code": self.code,
        }


def default_type(status: int) -> str:
    """OpenAI's error class for a status."""
    return _TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")


def read_failure(payload: Any, status: int | None = None) -> Failure | None:
    """The failure that a JSON value of an upstream is about, or None when it says nothing of one.

    OpenAI's own shape and, as real upstreams send them, a text or a list in the place of the error object, one error
    object around another, ``{"detail"}``, ``{"code", "msg"}``, ``{"object": "error"}``, RFC 9457 and the like.

    :param status: of the answer that holds ``payload``; None where that says nothing, as in a 200 or an event.
    """
    found = _find_error(payload, 0)
    if found is None:
        return None
    error, siblings = found
    message, code = _message(error), _code(error) or _code(siblings)
    kind = error.get("type") if isinstance(error.get("type"), str) and error["type"] != "error" else None
    param = error.get("param")
    return Failure(
        message=message or code or kind or NO_REASON,
        code=code,
        type=kind,
        param=param if isinstance(param, str) else None,
        status=status or _status(error, siblings, code, kind, message),
        extra={name: value for name, value in error.items() if name not in _USUAL and value != message},
        siblings={name: value for name, value in siblings.items() if name not in (*_USUAL, *_CONTAINERS)}
        if siblings.get("object") != "response"
        else {},
    )


def read_failure_body(content: bytes, status: int | None = None) -> Failure | None:
    """The failure that a body is about: JSON, server-sent events with JSON in them, a page or a text.

    :returns: None for a body that says nothing.
    """
    content = content.removeprefix(b"\xef\xbb\xbf").strip()
    try:
        payload = jsontext.loads(content)
    except ValueError:
        payload = None
    if payload is None:
        for event in sse.split(content + b"\n\n"):
            try:
                failure = read_failure(jsontext.loads(sse.parse(event)[1]), status)
            except ValueError:
                continue
            if failure:
                return failure
    elif failure := read_failure(payload, status):
        return failure
    words = visible_text(content)
    return Failure(words, status=status or 502) if words else None


def visible_text(content: bytes) -> str:
    """The visible beginning of a page of HTML or text, at most 500 characters."""
    page = content[:MAX_MESSAGE_LENGTH].decode("utf-8", "replace")
    page = re.sub(r"(?is)<(script|style|head)\b.*?</\1>|<!--.*?-->|<[^>]*>", " ", page)
    return " ".join(html.unescape(page).split())[:500]


# ------------------------------------------------------------------------------------------------ finding the reason
_Found = tuple[dict[str, Any], dict[str, Any]]
"""The innermost object about the failure, and the one around it."""


def _find_error(value: Any, depth: int) -> _Found | None:
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        return _find_error_in_text(value, depth) if value.strip() else None
    if isinstance(value, list):
        return _find_error_in_list(value, depth)
    return _find_error_in_object(value, depth) if isinstance(value, dict) else None


def _find_error_in_object(value: dict[str, Any], depth: int) -> _Found | None:
    inner, message = value.get("error"), _message(value)
    if isinstance(inner, str) and message:  # a word for programs beside a sentence for people, as in OAuth
        return {**value, "code": _code(value) or inner}, {}
    if inner and (found := _find_error(inner, depth + 1)):
        return found[0], found[1] or value
    if message or value.get("type") == "error" or value.get("object") == "error":
        return value, {}
    for name in _CONTAINERS:
        if value.get(name) and (found := _find_error(value[name], depth + 1)):
            return found[0], found[1] or value
    is_response = value.get("object") == "response" and not inner
    if isinstance(inner, dict) or (depth and _code(value) and not is_response):
        return (inner or value), value
    return None


def _find_error_in_text(text: str, depth: int) -> _Found:
    """A reason in the place of the error object; some quote another error as JSON in it."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            found = _find_error(jsontext.loads(text.encode("utf-8", "replace")), depth + 1)
        except ValueError:
            found = None
        if found:
            return found
    return {"message": text}, {}


def _find_error_in_list(values: list[Any], depth: int) -> _Found | None:
    """Several reasons: the first one decides, and the message tells all."""
    found = [one for one in (_find_error(value, depth + 1) for value in values[:MAX_REASONS]) if one]
    if not found:
        return None
    error, siblings = found[0]
    messages = [_located_message(one) for one, _ in found]
    return {**error, "message": "; ".join(message for message in messages if message)}, siblings


def _located_message(error: Mapping[str, Any]) -> str | None:
    """The message of a validation error, behind the field that it is about."""
    message, place = _message(error), error.get("loc")
    if message and isinstance(place, list) and place:
        return f"{'.'.join(map(str, place))}: {message}"
    return message


def _message(error: Mapping[str, Any]) -> str | None:
    return next((error[name] for name in _MESSAGES if isinstance(error.get(name), str) and error[name].strip()), None)


def _code(error: Mapping[str, Any]) -> str | None:
    """A word rather than a number."""
    values = [error.get(name) for name in _CODES]
    words = [value for value in values if isinstance(value, str) and value.strip() and not value.isdigit()]
    words = [word for word in words if word.lower() not in _EMPTY_CODES]
    numbers = [str(value) for value in values if value and isinstance(value, int | str) and type(value) is not bool]
    return next((value for value in (*words, *numbers) if value.lower() not in _EMPTY_CODES), None)


def _status(
    error: Mapping[str, Any], siblings: Mapping[str, Any], code: str | None, kind: str | None, message: str | None
) -> int:
    """The HTTP status that fits: one that is stated, else one that the words stand for."""
    for source in (error, siblings):
        for name in _STATUSES:
            number: Any = source.get(name)
            number = int(number) if isinstance(number, str) and re.fullmatch(r"\d{3}", number) else number
            if isinstance(number, int) and 400 <= number < 600:
                return int(number)
    for word in (code, kind, message):
        if word and (status := _PHRASES.get(word.strip(" .!").lower())):
            return status
    for word in (code, kind):
        for pattern, status in _STATUS_OF_CODE:
            if word and pattern.search(word):
                return status
    return next((status for pattern, status in _STATUS_OF_MESSAGE if message and pattern.search(message[:500])), 502)
