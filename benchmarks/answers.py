"""Checks of responses, byte by byte where the gateway relays bytes: every lost, doubled or altered one is detected."""

import json
from array import array
from typing import Any

from benchmarks import wire


class WrongAnswer(Exception):
    """A response differs from what the upstream sent. The message says how."""


class ChunkDecoder:
    """Decodes the chunked transfer coding."""

    def __init__(self) -> None:
        self._rest = b""
        self.over = False

    def feed(self, data: bytes) -> bytes:
        """Return the content of the chunks that ``data`` completes.

        :raises WrongAnswer: the coding is broken.
        """
        data, pieces, at = self._rest + data, [], 0
        while not self.over and (line := data.find(b"\r\n", at)) >= 0:
            size = _size(data[at:line])
            end = line + 2 + size
            if len(data) < end + 2:
                break
            if data[end : end + 2] != b"\r\n":
                raise WrongAnswer("a chunk is longer than it says")
            pieces.append(data[line + 2 : end])
            at, self.over = end + 2, not size
        self._rest = data[at:]
        if self.over and self._rest:
            raise WrongAnswer("there are bytes behind the end")
        return b"".join(pieces)


def _size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise WrongAnswer(f"this is no size of a chunk: {line[:40]!r}") from None


class StreamCheck:
    """Checks the events of one stream as they arrive."""

    def __init__(self, deltas: int, exact: bool, delays: array) -> None:
        """:param exact: the gateway has to relay every delta as the upstream wrote it; else its content is compared.
        :param delays: receives the nanoseconds from writing to receiving each delta.
        """
        self._deltas, self._exact, self._delays = deltas, exact, delays
        self._types = wire.event_types(deltas)
        self._rest = self._item = b""
        self._stamps: list[bytes] = []
        self._text: str | None = None
        self.events = 0
        self.id = ""
        self.complete = False

    def feed(self, data: bytes, now: int) -> None:
        """:param now: when ``data`` was received, in nanoseconds of the monotonic clock.
        :raises WrongAnswer: something is lost, out of order or altered.
        """
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            head, middle = wire.delta_parts(len(self._stamps))
            at = len(head) + wire.ID + len(middle)
            stamp = event[at : at + wire.STAMP]
            if event + b"\n\n" == b"".join((head, self._item, middle, stamp, wire.DELTA_TAIL)):
                self._delta(stamp, now)
            else:
                self._check_event(event, now)

    def finish(self) -> None:
        """:raises WrongAnswer: something is missing."""
        if self._rest.strip():
            raise WrongAnswer("the stream ends within an event")
        if not self.complete:
            raise WrongAnswer(f"the stream ends after {len(self._stamps)} deltas, without its terminal event")

    def _delta(self, stamp: bytes, now: int) -> None:
        if self.complete or len(self._stamps) == self._deltas:
            raise WrongAnswer("there are more deltas than were asked for")
        self._delays.append(max(0, now - int(stamp)))
        self._stamps.append(stamp)
        self.events += 1

    def _check_event(self, event: bytes, now: int) -> None:
        """Check an event that is not a delta in the upstream's own form."""
        payload = b"".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
        if not payload or payload == b"[DONE]":
            return  # a comment, or the end as some gateways tell it
        if self.complete:
            raise WrongAnswer(f"an event behind the terminal one: {event[:80]!r}")
        content = parse_object(payload)
        type = content.get("type")
        if type == wire.DELTA:
            self._check_rewritten_delta(event, content, now)
            return
        if type in ("error", "response.failed"):
            raise WrongAnswer(f"the stream failed: {payload[:200]!r}")
        expected = self._types[self.events] if self.events < len(self._types) else None
        if self._exact and not self._is_expected(expected, event, content):
            raise WrongAnswer(f"{expected} was due: {event[:120]!r}")
        self._check_other_event(type, content)
        self.events += 1

    def _is_expected(self, type: str | None, event: bytes, content: dict[str, Any]) -> bool:
        """Return whether the upstream writes this event at this position, and in this form."""
        framed = event.startswith(f"event: {type}\ndata: {{".encode())
        return framed and (content.get("type"), content.get("sequence_number")) == (type, self.events)

    def _check_rewritten_delta(self, event: bytes, content: dict[str, Any], now: int) -> None:
        label, _, rest = str(content.get("delta")).encode().partition(b".")
        if self._exact or label + b"." != wire.label(len(self._stamps)) or len(rest) != wire.STAMP + 1:
            raise WrongAnswer(f"delta {len(self._stamps)} was due: {event[:200]!r}")
        self._delta(rest[: wire.STAMP], now)

    def _check_other_event(self, type: str | None, content: dict[str, Any]) -> None:
        try:
            if type == "response.created":
                self.id = content["response"]["id"]
            elif type == "response.output_item.added":
                self._item = content["item"]["id"].removeprefix("msg_").encode()
            elif type in ("response.output_text.done", "response.content_part.done"):
                self._check_full_text(content["text"] if "text" in content else content["part"]["text"])
            elif type == "response.output_item.done":
                self._check_full_text(content["item"]["content"][0]["text"])
            elif type == "response.completed":
                self._terminal(content["response"])
        except (KeyError, IndexError, TypeError) as error:
            raise WrongAnswer(f"{type} lacks {error}") from None

    def _terminal(self, response: dict[str, Any]) -> None:
        if response["id"] != self.id:
            raise WrongAnswer(f"the response is {response['id']}, and began as {self.id}")
        self._check_full_text(response["output"][0]["content"][0]["text"])
        if response["status"] != "completed" or response["usage"]["output_tokens"] != self._deltas:
            raise WrongAnswer("the final response has another status or usage")
        self.complete = True

    def _check_full_text(self, text: str) -> None:
        if self._text is None:
            if len(self._stamps) != self._deltas:
                raise WrongAnswer(f"{len(self._stamps)} of {self._deltas} deltas came")
            self._text = wire.full_text(range(self._deltas), self._stamps).decode()
        if text != self._text:
            raise WrongAnswer("the full text is not what the deltas said")


def check_whole(body: bytes, deltas: int) -> str:
    """Check a response that does not stream.

    :returns: the id of the response.
    :raises WrongAnswer: it is not what the upstream sent.
    """
    answer = parse_object(body)
    try:
        id, status, usage = answer["id"], answer["status"], answer["usage"]["output_tokens"]
        text = answer["output"][0]["content"][0]["text"]
    except (KeyError, IndexError, TypeError) as error:
        raise WrongAnswer(f"the answer lacks {error}: {body[:200]!r}") from None
    check_text(text, deltas)
    if (status, usage) != ("completed", deltas):
        raise WrongAnswer("the answer has another status or usage")
    return id


def check_text(text: str, deltas: int) -> None:
    """Check the text of an answer. It has one stamp, unless the gateway has put the answer together from a stream.

    :raises WrongAnswer: it is not what the upstream sent.
    """
    stamps = [word.partition(b".")[2] for word in text.encode().split(b" ")[:-1]]
    if len(stamps) != deltas or text.encode() != wire.full_text(range(deltas), stamps):
        raise WrongAnswer("the text is not the one that was sent")
    if any(len(stamp) != wire.STAMP or not stamp.isdigit() for stamp in stamps):
        raise WrongAnswer("a time stamp in the text is altered")


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    :raises WrongAnswer: it is none.
    """
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise WrongAnswer(f"this is no JSON object: {data[:200]!r}")
    return content
