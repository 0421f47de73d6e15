"""What a route hands to the wire: a whole answer, an event stream, or silence; and the refusals' shapes."""

import html
import json
from dataclasses import dataclass
from typing import Any

JSON = Any
Headers = tuple[tuple[str, str], ...]

ESCAPED = "backslashreplace"
"""How lone surrogates are written, which UTF-8 does not know: as in JSON."""

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
class Answer:
    """A complete answer; `note` is what the log says about it."""

    status: int
    body: bytes
    headers: Headers = ()
    note: str = ""


@dataclass(frozen=True)
class EventStream:
    """A 200 whose body is `frames`: (seconds to wait before it, bytes).

    then: `end` finishes the body properly, `cut` closes the connection in the middle of it, `hang` falls silent.
    """

    frames: tuple[tuple[float, bytes], ...]
    headers: Headers = ()
    then: str = "end"
    note: str = ""


@dataclass(frozen=True)
class Silence:
    """No answer at all until the client hangs up or the simulator stops."""

    note: str = "silence"


AnyAnswer = Answer | EventStream | Silence


class Refused(Exception):
    """A check failed; `answer` is what the client gets."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.note)
        self.answer = answer


def json_answer(status: int, body: JSON, headers: Headers = (), note: str = "") -> Answer:
    """An answer with a JSON body."""
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors=ESCAPED)
    given = {name.lower() for name, _ in headers}
    return Answer(status, data, headers if "content-type" in given else (JSON_TYPE, *headers), note or str(status))


def detail(text: str, status: int = 400) -> Refused:
    """The backend's own validation error: {"detail": text}."""
    return Refused(json_answer(status, {"detail": text}, note=f"{status} {text}"))


def error(
    status: int, code: str | None, message: str, kind: str = "invalid_request_error", param: str | None = None
) -> Refused:
    """An OpenAI error object: {"error": {message, type, param, code}}."""
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}, "status": status}
    return Refused(json_answer(status, body, note=f"{status} {code or message}"))


def challenge(rule: str) -> Answer:
    """The edge's HTML page for what does not look like the CLI; a comment in it names the broken rule."""
    page = CHALLENGE.format(rule=html.escape(rule).replace("--", "- -"))
    headers = (("content-type", "text/html; charset=UTF-8"), ("cf-mitigated", "challenge"))
    return Answer(403, page.encode(errors=ESCAPED), headers, f"403 {rule}")
