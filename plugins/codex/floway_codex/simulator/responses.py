"""The responses of the simulator: complete, an event stream, or none; and the forms of its errors."""

import html
import json
from dataclasses import dataclass
from typing import Any

JSON = Any
Headers = tuple[tuple[str, str], ...]

ESCAPED = "backslashreplace"
"""The error handler for lone surrogates, which UTF-8 cannot encode: they are written as in JSON."""

JSON_TYPE = ("content-type", "application/json")
CHALLENGE = """<!DOCTYPE html>
<html lang="en-US">
<head><title>Just a moment...</title><meta name="robots" content="noindex,nofollow"></head>
<body><noscript>Enable JavaScript and cookies to continue</noscript>
<!-- simulator: {rule} -->
</body>
</html>
"""


@dataclass(frozen=True)
class PlainResponse:
    """A complete response; `note` is its entry in the log."""

    status: int
    body: bytes
    headers: Headers = ()
    note: str = ""


@dataclass(frozen=True)
class EventStream:
    """A 200 whose body is `frames`: (seconds to wait before it, bytes).

    then: `end` completes the body, `cut` closes the connection in the middle of it, `hang` sends nothing more.
    """

    frames: tuple[tuple[float, bytes], ...]
    headers: Headers = ()
    then: str = "end"
    note: str = ""


@dataclass(frozen=True)
class Silence:
    """No response until the client disconnects or the simulator stops."""

    note: str = "silence"


SimulatedResponse = PlainResponse | EventStream | Silence


class RequestRefused(Exception):
    """A check failed; `response` is what the client gets."""

    def __init__(self, response: PlainResponse) -> None:
        super().__init__(response.note)
        self.response = response


def json_response(status: int, body: JSON, headers: Headers = (), note: str = "") -> PlainResponse:
    """A response with a JSON body."""
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors=ESCAPED)
    names = {name.lower() for name, _ in headers}
    return PlainResponse(
        status, data, headers if "content-type" in names else (JSON_TYPE, *headers), note or str(status)
    )


def detail_refusal(text: str, status: int = 400) -> RequestRefused:
    """The backend's own validation error: {"detail": text}."""
    return RequestRefused(json_response(status, {"detail": text}, note=f"{status} {text}"))


def error_refusal(status: int, code: str | None, message: str, param: str | None = None) -> RequestRefused:
    """An OpenAI error object: {"error": {message, type, param, code}}."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    body = {"error": error, "status": status}
    return RequestRefused(json_response(status, body, note=f"{status} {code or message}"))


def challenge_page(rule: str) -> PlainResponse:
    """The HTML page of the edge for requests that do not look like the CLI; a comment in it names the broken rule."""
    page = CHALLENGE.format(rule=html.escape(rule).replace("--", "- -"))
    headers = (("content-type", "text/html; charset=UTF-8"), ("cf-mitigated", "challenge"))
    return PlainResponse(403, page.encode(errors=ESCAPED), headers, f"403 {rule}")
