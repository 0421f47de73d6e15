"""Requests of the Messages API, and checks of the answers: the same orders and deltas as in the Responses API."""

import json
from array import array
from typing import Any

from benchmarks import wire
from benchmarks.answers import WrongAnswer, check_text, parse_object
from benchmarks.translated import TranslatedCheck
from benchmarks.wire import Order

PATH = "/v1/messages"


def body_of(order: Order, *, stream: bool = True) -> dict[str, Any]:
    """A request as an agent makes it."""
    parameters = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
    return {
        "model": wire.MODEL,
        "max_tokens": 32_000,
        "system": [{"type": "text", "text": "You are a coding agent.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": str(order)}]}],
        "tools": [{"name": "shell", "description": "Runs a command.", "input_schema": parameters}],
        "thinking": {"type": "adaptive"},
        "stream": stream,
    }


class MessageCheck(TranslatedCheck):
    """Checks the events of one stream as they arrive."""

    def __init__(self, deltas: int, exact: bool, delays: array) -> None:
        super().__init__(deltas, exact, delays)
        self._usage: dict[str, Any] = {}
        self._complete = False

    def finish(self) -> None:
        """:raises WrongAnswer: something is missing."""
        if not self._complete or self._rest.strip():
            raise WrongAnswer(f"the stream ends after {self._count} deltas, without its last event")
        if self._count != self._deltas or self._usage.get("output_tokens") != self._deltas:
            raise WrongAnswer(f"{self._count} of {self._deltas} deltas came, or the usage is wrong: {self._usage}")

    def _check_event(self, event: dict[str, Any], now: int) -> None:
        kind = event.get("type")
        try:
            if kind == "content_block_delta" and event["delta"]["type"] == "text_delta":
                self._check_text(event["delta"]["text"], now)
            elif kind == "message_start":
                self.id = event["message"]["id"]
            elif kind == "message_delta":
                self._usage = event["usage"]
            elif kind == "message_stop":
                self._complete = True
            elif kind == "error":
                raise WrongAnswer(f"the stream failed: {json.dumps(event)[:200]}")
        except (KeyError, TypeError) as error:
            raise WrongAnswer(f"{kind} lacks {error}") from None


def check_message(body: bytes, deltas: int) -> str:
    """Check an answer in one piece.

    :returns: its id.
    :raises WrongAnswer: it is not what the upstream sent.
    """
    answer = parse_object(body)
    try:
        text, used = answer["content"][0]["text"], answer["usage"]["output_tokens"]
    except (KeyError, IndexError, TypeError) as error:
        raise WrongAnswer(f"the answer lacks {error}: {body[:200]!r}") from None
    check_text(text, deltas)
    if (answer.get("stop_reason"), used) != ("end_turn", deltas):
        raise WrongAnswer("the answer has another stop reason or usage")
    return answer["id"]
