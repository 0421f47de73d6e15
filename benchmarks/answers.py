"""Checks of answers, byte for byte where the gateway relays bytes: none is lost, doubled or altered unnoticed."""

import json
from array import array
from typing import Any

from benchmarks import wire


class Bad(Exception):
    """An answer is not what the upstream sent; the message says how."""


class Chunks:
    """Undoes the chunked transfer coding."""

    def __init__(self) -> None:
        self._rest = b""
        self.over = False

    def feed(self, data: bytes) -> bytes:
        """What the chunks that ``data`` completes hold.

        :raises Bad: the coding is broken.
        """
        data, found, at = self._rest + data, [], 0
        while not self.over and (line := data.find(b"\r\n", at)) >= 0:
            size = _size(data[at:line])
            end = line + 2 + size
            if len(data) < end + 2:
                break
            if data[end : end + 2] != b"\r\n":
                raise Bad("a chunk is longer than it says")
            found.append(data[line + 2 : end])
            at, self.over = end + 2, not size
        self._rest = data[at:]
        if self.over and self._rest:
            raise Bad("there are bytes behind the end")
        return b"".join(found)


def _size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise Bad(f"this is no size of a chunk: {line[:40]!r}") from None


class StreamCheck:
    """Takes the events of one stream as they come."""

    def __init__(self, deltas: int, exact: bool, delays: array) -> None:
        """:param exact: the gateway has to relay every delta as the upstream wrote it; else its content is compared.
        :param delays: where the nanoseconds from writing to receiving each delta go.
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
        :raises Bad: something is lost, out of order or altered.
        """
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            head, middle = wire.delta_parts(len(self._stamps))
            at = len(head) + wire.ID + len(middle)
            stamp = event[at : at + wire.STAMP]
            if event + b"\n\n" == b"".join((head, self._item, middle, stamp, wire.DELTA_TAIL)):
                self._delta(stamp, now)
            else:
                self._look(event, now)

    def finish(self) -> None:
        """:raises Bad: something is missing."""
        if self._rest.strip():
            raise Bad("the stream ends within an event")
        if not self.complete:
            raise Bad(f"the stream ends after {len(self._stamps)} deltas, without its terminal event")

    def _delta(self, stamp: bytes, now: int) -> None:
        if self.complete or len(self._stamps) == self._deltas:
            raise Bad("there are more deltas than were asked for")
        self._delays.append(max(0, now - int(stamp)))
        self._stamps.append(stamp)
        self.events += 1

    def _look(self, event: bytes, now: int) -> None:
        """Any event but a delta as the upstream wrote it."""
        told = b"".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
        if not told or told == b"[DONE]":
            return  # a comment, or the end as some gateways tell it
        if self.complete:
            raise Bad(f"an event behind the terminal one: {event[:80]!r}")
        found = parse_object(told)
        type = found.get("type")
        if type == wire.DELTA:
            self._reshaped(event, found, now)
            return
        if type in ("error", "response.failed"):
            raise Bad(f"the stream failed: {told[:200]!r}")
        expected = self._types[self.events] if self.events < len(self._types) else None
        if self._exact and not self._due(expected, event, found):
            raise Bad(f"{expected} was due: {event[:120]!r}")
        self._around(type, found)
        self.events += 1

    def _due(self, type: str | None, event: bytes, found: dict[str, Any]) -> bool:
        """Does the upstream write such an event now, and in this form?"""
        framed = event.startswith(f"event: {type}\ndata: {{".encode())
        return framed and (found.get("type"), found.get("sequence_number")) == (type, self.events)

    def _reshaped(self, event: bytes, found: dict[str, Any], now: int) -> None:
        label, _, rest = str(found.get("delta")).encode().partition(b".")
        if self._exact or label + b"." != wire.label(len(self._stamps)) or len(rest) != wire.STAMP + 1:
            raise Bad(f"delta {len(self._stamps)} was due: {event[:200]!r}")
        self._delta(rest[: wire.STAMP], now)

    def _around(self, type: str | None, found: dict[str, Any]) -> None:
        try:
            if type == "response.created":
                self.id = found["response"]["id"]
            elif type == "response.output_item.added":
                self._item = found["item"]["id"].removeprefix("msg_").encode()
            elif type in ("response.output_text.done", "response.content_part.done"):
                self._full(found["text"] if "text" in found else found["part"]["text"])
            elif type == "response.output_item.done":
                self._full(found["item"]["content"][0]["text"])
            elif type == "response.completed":
                self._terminal(found["response"])
        except (KeyError, IndexError, TypeError) as error:
            raise Bad(f"{type} lacks {error}") from None

    def _terminal(self, response: dict[str, Any]) -> None:
        if response["id"] != self.id:
            raise Bad(f"the response is {response['id']}, and began as {self.id}")
        self._full(response["output"][0]["content"][0]["text"])
        if response["status"] != "completed" or response["usage"]["output_tokens"] != self._deltas:
            raise Bad("the final response has another status or usage")
        self.complete = True

    def _full(self, text: str) -> None:
        if self._text is None:
            if len(self._stamps) != self._deltas:
                raise Bad(f"{len(self._stamps)} of {self._deltas} deltas came")
            self._text = wire.full_text(range(self._deltas), self._stamps).decode()
        if text != self._text:
            raise Bad("the full text is not what the deltas said")


def check_whole(body: bytes, deltas: int) -> str:
    """Check an answer in one piece.

    :returns: the id of the response.
    :raises Bad: it is not what the upstream sent.
    """
    answer = parse_object(body)
    try:
        id, status, usage = answer["id"], answer["status"], answer["usage"]["output_tokens"]
        text = answer["output"][0]["content"][0]["text"]
    except (KeyError, IndexError, TypeError) as error:
        raise Bad(f"the answer lacks {error}: {body[:200]!r}") from None
    # One stamp for all, unless the gateway has put the answer together from a stream.
    stamps = [word.partition(b".")[2] for word in text.encode().split(b" ")[:-1]]
    if len(stamps) != deltas or text.encode() != wire.full_text(range(deltas), stamps):
        raise Bad("the text is not the one that was sent")
    if any(len(stamp) != wire.STAMP or not stamp.isdigit() for stamp in stamps):
        raise Bad("a time stamp in the text is altered")
    if (status, usage) != ("completed", deltas):
        raise Bad("the answer has another status or usage")
    return id


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    :raises Bad: it is none.
    """
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Bad(f"this is no JSON object: {data[:200]!r}")
    return found
