"""Requests of the Messages API, and checks of the answers: the same orders and deltas as in the Responses API."""

import json
from array import array
from typing import Any

from benchmarks import wire
from benchmarks.answers import WrongAnswer, parse_object
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


class MessageCheck:
    """Takes the events of one stream as they come."""

    def __init__(self, deltas: int, exact: bool, delays: array) -> None:
        """:param exact: not used: every gateway writes these events itself.
        :param delays: where the nanoseconds from writing to receiving each delta go.
        """
        self._deltas, self._delays = deltas, delays
        self._rest, self._text = b"", ""
        self._count = self.events = 0
        self.id = ""
        self._usage: dict[str, Any] = {}
        self._complete = False

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
        if not self._complete or self._rest.strip():
            raise WrongAnswer(f"the stream ends after {self._count} deltas, without its last event")
        if self._count != self._deltas or self._usage.get("output_tokens") != self._deltas:
            raise WrongAnswer(f"{self._count} of {self._deltas} deltas came, or the usage is wrong: {self._usage}")

    def _take(self, found: dict[str, Any], now: int) -> None:
        kind = found.get("type")
        try:
            if kind == "content_block_delta":
                self._add(found["delta"], now)
            elif kind == "message_start":
                self.id = found["message"]["id"]
            elif kind == "message_delta":
                self._usage = found["usage"]
            elif kind == "message_stop":
                self._complete = True
            elif kind == "error":
                raise WrongAnswer(f"the stream failed: {json.dumps(found)[:200]}")
        except (KeyError, TypeError) as error:
            raise WrongAnswer(f"{kind} lacks {error}") from None

    def _add(self, delta: dict[str, Any], now: int) -> None:
        """Take a delta. Gateways may join or split what the upstream wrote; the text must be the same."""
        if delta["type"] != "text_delta":
            return
        self._text += delta["text"]
        *words, self._text = self._text.split(" ")
        for word in words:
            label, _, stamp = word.encode().partition(b".")
            if label + b"." != wire.label(self._count) or len(stamp) != wire.STAMP or not stamp.isdigit():
                raise WrongAnswer(f"delta {self._count} was due: {word!r}")
            self._delays.append(max(0, now - int(stamp)))
            self._count += 1


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
    stamps = [word.partition(b".")[2] for word in text.encode().split(b" ")[:-1]]
    if len(stamps) != deltas or text.encode() != wire.full_text(range(deltas), stamps):
        raise WrongAnswer("the text is not the one that was sent")
    if (answer.get("stop_reason"), used) != ("end_turn", deltas):
        raise WrongAnswer("the answer has another stop reason or usage")
    return answer["id"]
