"""Events of content blocks. Blocks are sent one after the other, though several items of a response may be open."""

from collections import deque
from typing import Any

from floway_core.protocol import jsontext, sse

Delta = bytes
"""A delta as JSON."""


def encode_event(kind: str, **fields: Any) -> bytes:
    """Encode one event of the Messages API."""
    return sse.encode(kind, jsontext.dumps({"type": kind, **fields}))


def text_delta(text: str) -> Delta:
    """Return the delta that adds ``text`` to a text block."""
    return b'{"type":"text_delta","text":%b}' % jsontext.dumps(text)


def thinking_delta(text: str) -> Delta:
    """Return the delta that adds ``text`` to a thinking block."""
    return b'{"type":"thinking_delta","thinking":%b}' % jsontext.dumps(text)


def signature_delta(signature: str) -> Delta:
    """Return the delta with the signature of a thinking block."""
    return b'{"type":"signature_delta","signature":%b}' % jsontext.dumps(signature)


def json_delta(text: str) -> Delta:
    """Return the delta that adds ``text`` to the input of a tool."""
    return b'{"type":"input_json_delta","partial_json":%b}' % jsontext.dumps(text)


def citations_delta(citation: dict[str, Any]) -> Delta:
    """Return the delta that adds a citation to a text block."""
    return b'{"type":"citations_delta","citation":%b}' % jsontext.dumps(citation)


class OpenBlock:
    """A block that is not closed yet."""

    __slots__ = ("content", "is_closed", "prefix", "waiting")

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        """The block in its ``content_block_start`` event."""
        self.prefix = b""
        """The bytes in front of each delta; empty until ``content_block_start`` has been sent."""
        self.waiting: list[Delta] = []
        """Deltas that arrived before the block could start."""
        self.is_closed = False


class BlockStream:
    """Writes blocks. A block that is opened while another one is open waits until that one is closed."""

    def __init__(self) -> None:
        self._current: OpenBlock | None = None
        self._queue: deque[OpenBlock] = deque()
        self._held: list[tuple[dict[str, Any], tuple[Delta, ...]]] = []
        """Whole blocks that are sent only if another one follows."""
        self._count = 0

    def open(self, content: dict[str, Any]) -> tuple[OpenBlock, bytes]:
        """Open a block; return it and the events to send.

        :param content: the block in its ``content_block_start`` event; its text follows in deltas.
        """
        events, block = self._release(), OpenBlock(content)
        if self._current is None:
            return block, events + self._begin(block)
        self._queue.append(block)
        return block, events

    def write(self, block: OpenBlock, delta: Delta) -> bytes:
        """Add a delta; return the events to send."""
        if block is self._current:
            return b"%b%b}\n\n" % (block.prefix, delta)
        block.waiting.append(delta)
        return b""

    def close(self, block: OpenBlock) -> bytes:
        """Close a block; return the events to send, with those of the blocks that waited for it."""
        block.is_closed = True
        return self._finish_current() if block is self._current else b""

    def add(self, content: dict[str, Any], *deltas: Delta) -> bytes:
        """Write a whole block; return the events to send."""
        block, events = self.open(content)
        return b"".join([events, *(self.write(block, delta) for delta in deltas), self.close(block)])

    def hold(self, content: dict[str, Any], *deltas: Delta) -> None:
        """Write a whole block before the next one. If none follows, it is dropped, unless it would be the only one."""
        self._held.append((content, deltas))

    def close_all(self) -> bytes:
        """Close all open blocks; return the events to send."""
        for block in self._queue:
            block.is_closed = True
        if self._current is None:
            return b"" if self._count else self._release()
        self._current.is_closed = True
        return self._finish_current()

    def _release(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(self.add(content, *deltas) for content, deltas in held)

    def _begin(self, block: OpenBlock) -> bytes:
        index, self._count = self._count, self._count + 1
        block.prefix = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":' % index
        self._current = block
        start = encode_event("content_block_start", index=index, content_block=block.content)
        return start + b"".join(b"%b%b}\n\n" % (block.prefix, delta) for delta in block.waiting)

    def _finish_current(self) -> bytes:
        """End the current block. Then start the waiting blocks, up to the first that is still open."""
        events = []
        while self._current and self._current.is_closed:
            events.append(encode_event("content_block_stop", index=self._count - 1))
            self._current = None
            if self._queue:
                events.append(self._begin(self._queue.popleft()))
        return b"".join(events)
