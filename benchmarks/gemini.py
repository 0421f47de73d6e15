"""Requests of the generateContent API, and checks of the answers: the same orders as in the Responses API."""

import json
from array import array
from typing import Any

from benchmarks import wire
from benchmarks.answers import WrongAnswer, parse_object
from benchmarks.wire import Order

PATH = f"/v1beta/models/{wire.MODEL}:generateContent"
STREAM_PATH = f"/v1beta/models/{wire.MODEL}:streamGenerateContent?alt=sse"


def body_of(order: Order, *, stream: bool = True) -> dict[str, Any]:
    """A request as an agent makes it. The path says whether it streams."""
    parameters = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
    function = {"name": "shell", "description": "Runs a command.", "parametersJsonSchema": parameters}
    return {
        "systemInstruction": {"parts": [{"text": "You are a coding agent."}]},
        "contents": [{"role": "user", "parts": [{"text": str(order)}]}],
        "tools": [{"functionDeclarations": [function]}],
        "generationConfig": {"temperature": 1, "topP": 0.95, "topK": 64, "thinkingConfig": {"includeThoughts": True}},
    }


class ContentCheck:
    """Takes the events of one stream as they come."""

    def __init__(self, deltas: int, exact: bool, delays: array) -> None:
        """:param exact: not used: every gateway writes these events itself.
        :param delays: where the nanoseconds from writing to receiving each delta go.
        """
        self._deltas, self._delays = deltas, delays
        self._rest, self._text = b"", ""
        self._count = self.events = 0
        self.id = ""
        self._last: dict[str, Any] = {}

    def feed(self, data: bytes, now: int) -> None:
        """:param now: when ``data`` was received, in nanoseconds of the monotonic clock.
        :raises WrongAnswer: something is lost, out of order or altered.
        """
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            content = event.partition(b"data:")[2]
            if not content:
                continue
            found = parse_object(content)
            self.events += 1
            self._take(found, now)

    def finish(self) -> None:
        """:raises WrongAnswer: something is missing."""
        if _finish_reason(self._last) != "STOP" or self._rest.strip():
            raise WrongAnswer(
                f"the stream ends after {self._count} deltas: {(self._rest or b'without its end')[:200]!r}"
            )
        used = self._last.get("usageMetadata", {}).get("candidatesTokenCount")
        if self._count != self._deltas or used != self._deltas:
            raise WrongAnswer(f"{self._count} of {self._deltas} deltas came, or the usage is wrong: {used}")

    def _take(self, found: dict[str, Any], now: int) -> None:
        """Take a piece. Gateways may join or split what the upstream wrote; the text must be the same."""
        self._last, self.id = found, str(found.get("responseId"))
        self._text += _text(found)
        *words, self._text = self._text.split(" ")
        for word in words:
            label, _, stamp = word.encode().partition(b".")
            if label + b"." != wire.label(self._count) or len(stamp) != wire.STAMP or not stamp.isdigit():
                raise WrongAnswer(f"delta {self._count} was due: {word!r}")
            self._delays.append(max(0, now - int(stamp)))
            self._count += 1


def check_answer(body: bytes, deltas: int) -> str:
    """Check an answer in one piece.

    :returns: its id.
    :raises WrongAnswer: it is not what the upstream sent.
    """
    answer = parse_object(body)
    text, used = _text(answer), answer.get("usageMetadata", {}).get("candidatesTokenCount")
    stamps = [word.partition(b".")[2] for word in text.encode().split(b" ")[:-1]]
    if len(stamps) != deltas or text.encode() != wire.full_text(range(deltas), stamps):
        raise WrongAnswer("the text is not the one that was sent")
    if (_finish_reason(answer), used) != ("STOP", deltas):
        raise WrongAnswer("the answer has another finish reason or usage")
    return str(answer["responseId"])


def _text(answer: dict[str, Any]) -> str:
    try:
        parts = answer["candidates"][0]["content"]["parts"]
        return "".join(part["text"] for part in parts)
    except (KeyError, IndexError, TypeError) as error:
        raise WrongAnswer(f"the answer lacks {error}: {json.dumps(answer)[:200]}") from None


def _finish_reason(answer: dict[str, Any]) -> str | None:
    return answer["candidates"][0].get("finishReason") if answer.get("candidates") else None
