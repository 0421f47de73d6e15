"""The objects of the Responses API: checking a request, following a stream of events, building a failure."""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from floway_core.protocol import jsontext, sse

COMPLETED = ("response.completed", "response.incomplete")
FAILED = "response.failed"
TERMINAL = (*COMPLETED, FAILED)
ITEM_DONE = "response.output_item.done"

# A name in quotes cannot stand inside a JSON string, where the quotes would be escaped; so an event without a match
# does not matter. A match may still be something else: it is parsed then. Each pattern begins with plain text, which is
# found ten times as fast as a choice; what has to stand before it is looked at afterwards.
_ABOUT_RESPONSE = re.compile(
    rb'response\.(?<=["\s:]response\.)'
    rb'(?:created|queued|in_progress|completed|incomplete|failed|output_item\.done)["\r\n]'
)
_ABOUT_ERROR = re.compile(rb'error(?<=["\s:]error)["\r\n]')


class Transcript:
    """What the events of one answer have told so far. Deltas are not looked at."""

    def __init__(self, known: Mapping[str, Any], model: str = "", *, shown: bool = True) -> None:
        """:param known: fields of the response object that the gateway knows better than the upstream, like ``id``.
        :param model: what was asked for, for a failure before the upstream has said anything.
        :param shown: whether the client sees the events; else they need not be written anew.
        """
        self.envelope: dict[str, Any] = {}
        """The response object as it was last announced; complete, with its output, after the terminal event."""
        self.terminal: str | None = None
        """The type of the terminal event, once it came."""
        self.error: dict[str, Any] | None = None
        """The content of an ``error`` event, if one came."""
        self._known = known
        self._model = model
        self._shown = shown
        self._items: dict[int, Any] = {}
        self._numbered = b""

    def follow(self, block: bytes) -> Iterator[bytes]:
        """Take notice of a block of complete events, up to and including a terminal one.

        :returns: the events as the client is to see them, in pieces: those that matter alone, all others as they came
            together. Events are unchanged, but for the response objects in them. They get what the gateway knows, and
            the one in the terminal event gets the output that was streamed: some upstreams leave it out or encrypt it
            anew, and clients read the answer from there.
        """
        at, response = 0, -1
        while True:
            if response < at:
                found = _ABOUT_RESPONSE.search(block, at)
                response = found.start() if found else len(block)
            error = _ABOUT_ERROR.search(block, at, response)
            place = error.start() if error else response
            if place == len(block):
                break
            start, end = sse.around(block, place, at)
            if start > at:
                self._pass(block[at:start])
                yield block[at:start]
            yield self._note(block[start:end])
            if self.terminal:
                return
            at = end
        if at < len(block):
            self._pass(block[at:])
            yield block[at:] if at else block

    def _pass(self, events: bytes) -> None:
        if b'"sequence_number"' in events:
            self._numbered = events

    def _note(self, event: bytes) -> bytes:
        self._pass(event)
        name, data = sse.parse(event)
        try:
            content = jsontext.loads(data)
        except ValueError:
            return event
        if not isinstance(content, dict):
            return event
        kind = content.get("type") or name
        if kind == ITEM_DONE and isinstance(content.get("item"), dict):
            index = content.get("output_index")
            self._items[index if isinstance(index, int) else len(self._items)] = content["item"]
        elif kind == "error":
            self.error = content
        elif isinstance(response := content.get("response"), dict):
            return self._note_response(kind, content, response, event)
        return event

    def _note_response(self, kind: str, content: dict[str, Any], response: dict[str, Any], event: bytes) -> bytes:
        told_id, told_output = response.get("id"), response.get("output")
        corrections = self._corrections(response)
        self.envelope = response
        response.update(corrections)
        if kind in TERMINAL:
            self.terminal = kind
            response["output"] = self._complete(told_output if isinstance(told_output, list) else [])
        if not self._shown:
            return event
        if corrections.keys() <= {"id"} and response.get("output") == told_output and isinstance(told_id, str):
            told = jsontext.dumps(told_id)
            if event.count(told) == 1:  # else some of them may be something else
                return event.replace(told, jsontext.dumps(response["id"]))
        return sse.encode(kind, jsontext.dumps(content))

    def take(self, response: dict[str, Any]) -> None:
        """Take notice of an answer that came as one response object. One without a status counts as completed."""
        kind = f"response.{response.get('status') or 'completed'}"
        self.terminal = kind if kind in TERMINAL else "response.completed"
        self.envelope = {**response, "status": self.terminal.removeprefix("response.")}
        self.envelope.update(self._corrections(response))
        self.envelope["output"] = self._complete(response.get("output") or [])

    def _corrections(self, response: Mapping[str, Any]) -> dict[str, Any]:
        """What the gateway knows better. A field that is empty or not there says the same as null."""
        told = {name: response.get(name) for name in self._known}
        return {
            name: value
            for name, value in self._known.items()
            if told[name] != value and (told[name] or value is not None)
        }

    def _complete(self, told: list[Any]) -> list[Any]:
        """The output by index: items as they were streamed, else as the terminal event tells them."""
        by_index = {**{index: item for index, item in enumerate(told) if isinstance(item, dict)}, **self._items}
        return [by_index[index] for index in sorted(by_index)]

    def failure(self, code: str, message: str) -> bytes:
        """The events that tell a client of a stream that it has failed: ``error``, unless one came, and the terminal.

        The error stands in both places where clients look: at the top level (the OpenAI specification) and under
        ``error`` (the OpenAI SDKs raise from there).
        """
        number = self._sequence_number() + 1
        events = b""
        if self.error is None:
            error = {"type": "server_error", "code": code, "message": message, "param": None}
            content = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": number}
            events, number = sse.encode("error", jsontext.dumps({**content, "error": error})), number + 1
        else:
            told = self.error.get("error") if isinstance(self.error.get("error"), dict) else self.error
            code, message = str(told.get("code") or code), str(told.get("message") or message)
        response = {**_blank_response(self._model), **self.envelope}
        response.update(self._corrections(response))
        response |= {"output": self._complete([]), "status": "failed"}
        response["error"] = {"code": code, "message": message}
        self.envelope, self.terminal = response, FAILED
        content = {"type": FAILED, "sequence_number": number, "response": response}
        return events + sse.encode(FAILED, jsontext.dumps(content))

    def _sequence_number(self) -> int:
        """The highest sequence number seen, or -1: the last event that has one has the highest."""
        numbers = re.findall(rb'"sequence_number": ?(\d{1,15})\b', self._numbered)
        return int(numbers[-1]) if numbers else -1


def _blank_response(model: str) -> dict[str, Any]:
    """A response object for a stream that failed before it announced its own."""
    return {
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def is_response(value: Any) -> bool:
    """Whether ``value`` can be taken for a complete response object: what is looked into has its shape."""
    if not isinstance(value, dict) or not isinstance(value.get("output") or [], list):
        return False
    for item in value.get("output") or []:
        parts = item.get("content") if isinstance(item, dict) else [None]
        if isinstance(parts, list) and not all(isinstance(part, dict) for part in parts):
            return False
    return True


class Tokens(NamedTuple):
    """What a response has used."""

    input: int
    cached: int
    """Part of ``input``."""
    output: int
    reasoning: int
    """Part of ``output``."""


NO_TOKENS = Tokens(0, 0, 0, 0)
MOST_TOKENS = 10**9
"""More than any response uses. A number beyond it is nonsense, which must not spoil sums."""


def usage_of(response: Mapping[str, Any]) -> Tokens:
    """The tokens of a response object; 0 for what it does not tell."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return NO_TOKENS
    return Tokens(
        _count(usage, "input_tokens"),
        _count(usage.get("input_tokens_details"), "cached_tokens"),
        _count(usage, "output_tokens"),
        _count(usage.get("output_tokens_details"), "reasoning_tokens"),
    )


def _count(told: Any, name: str) -> int:
    count = told.get(name) if isinstance(told, dict) else None
    return count if isinstance(count, int) and 0 <= count <= MOST_TOKENS else 0
