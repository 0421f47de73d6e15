"""Requests of the generateContent API, and checks of the answers: the same orders as in the Responses API."""

import json
from array import array
from typing import Any

from benchmarks import wire
from benchmarks.answers import WrongAnswer, check_text, parse_object
from benchmarks.translated import TranslatedCheck
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


class ContentCheck(TranslatedCheck):
    """Checks the events of one stream as they arrive."""

    def __init__(self, deltas: int, exact: bool, delays: array) -> None:
        super().__init__(deltas, exact, delays)
        self._last: dict[str, Any] = {}

    def finish(self) -> None:
        """:raises WrongAnswer: something is missing."""
        if _finish_reason(self._last) != "STOP" or self._rest.strip():
            raise WrongAnswer(
                f"the stream ends after {self._count} deltas: {(self._rest or b'without its end')[:200]!r}"
            )
        used = self._last.get("usageMetadata", {}).get("candidatesTokenCount")
        if self._count != self._deltas or used != self._deltas:
            raise WrongAnswer(f"{self._count} of {self._deltas} deltas came, or the usage is wrong: {used}")

    def _check_event(self, event: dict[str, Any], now: int) -> None:
        self._last, self.id = event, str(event.get("responseId"))
        self._check_text(_text(event), now)


def check_answer(body: bytes, deltas: int) -> str:
    """Check an answer in one piece.

    :returns: its id.
    :raises WrongAnswer: it is not what the upstream sent.
    """
    answer = parse_object(body)
    check_text(_text(answer), deltas)
    used = answer.get("usageMetadata", {}).get("candidatesTokenCount")
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
