"""One WebSocket of a client: its protocol, its framing, and the bytes that it has not accepted yet. No threads."""

import logging
import re
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from floway_core.errors import GatewayError
from floway_core.protocol import jsontext, sse
from floway_core.receiving import receive
from floway_core.runtime.memory import MemoryBudget, Reservation
from floway_core.server.connection import Connection
from floway_core.server.frame_allowance import FrameAllowance
from floway_core.web.websocket import WebSocketSession

if TYPE_CHECKING:
    from floway_core.server.websocket_turn import WebSocketTurn

RECEIVED_BYTES = 4 * 1024
"""Bytes to receive before other connections are served: they may be hundreds of frames."""

UNRESERVED_BYTES = 64 * 1024
"""Bytes of unfinished and waiting messages of one connection that are not counted in the memory budget."""

MAX_WAITING = 8
"""Messages that may wait for the end of the running response."""

_TYPED_DATA = re.compile(rb'^data: ?(\{"type".*)$', re.MULTILINE)
"""The data of an event in its usual form: one line, which begins with the type."""

_protocol_log = logging.getLogger("floway.websocket.protocol")
"""For the library, which reports every end of a connection as info."""
_protocol_log.setLevel(logging.WARNING)


class WebSocketConnection:
    """The state of a connection. Only the thread of the loop uses it, except where a comment says otherwise."""

    def __init__(self, conn: Connection, session: WebSocketSession, memory: MemoryBudget) -> None:
        """:param memory: for the messages that are not complete or have to wait."""
        self.conn, self.session = conn, session
        self.turn: WebSocketTurn | None = None
        """The message that is being answered."""
        self.last_response_id = ""
        self.messages: deque[bytes] = deque()
        """Complete messages that wait for the end of ``turn``."""
        self.is_lost = False
        """Whether the client has disconnected, or has stalled."""
        self.has_stalled = False
        """Whether the client has not read for too long."""
        self.received_at = self.sent_at = self.used_at = time.monotonic()
        """When bytes were last received and last sent, and when a response last ended."""
        self.stalled_at = 0.0
        """Since when the client has accepted none of the unsent bytes."""
        self.watched_events = 0
        """What the loop waits for on the socket; 0 if it does not."""
        self._beginning = bytearray()
        """The beginning of a message."""
        self._allowance = FrameAllowance()
        self._reservation = Reservation(memory)
        self._protocol = ServerProtocol(state=OPEN, max_size=session.max_message_bytes, logger=_protocol_log)

    @property
    def is_closing(self) -> bool:
        """Whether one side has sent a close frame. Nothing is received any more."""
        return self._protocol.state is not OPEN

    @property
    def is_receiving(self) -> bool:
        """Whether a message has begun and is not complete."""
        return bool(self._beginning or self._protocol.reader.buffer)

    # ----------------------------------------------------------------------------------------------------- receiving
    def receive(self) -> Iterator[bytes]:
        """Receive what has arrived, and yield the messages that it completes. Sets ``is_lost`` at its end."""
        try:
            data = receive(self.conn.sock, socket.MSG_DONTWAIT, RECEIVED_BYTES)
        except BlockingIOError:
            return iter(())
        except OSError as error:
            self._lose(error)
            return iter(())
        if not data:
            self.is_lost = True
            return iter(())
        return self.feed(data)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take received bytes, and yield the messages that they complete."""
        self.received_at = time.monotonic()
        self._protocol.receive_data(data)
        frames = [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        if not self._allowance.spend(len(frames), len(data)):
            self.close(CloseCode.POLICY_VIOLATION, "Too many small frames.")
            return
        self._collect()
        for frame in frames:
            if frame.opcode is Opcode.BINARY:
                self.close(CloseCode.UNSUPPORTED_DATA, "Messages are JSON texts.")
            elif frame.opcode in (Opcode.TEXT, Opcode.CONT):
                self._beginning += frame.data
                if frame.fin:
                    message, self._beginning = bytes(self._beginning), bytearray()
                    yield message
            if self.is_closing:
                break
        self.reserve()

    def reserve(self) -> None:
        """Reserve memory for what has been received and not been answered yet. Without it the connection closes."""
        size = len(self._protocol.reader.buffer) + len(self._beginning) + sum(map(len, self.messages))
        size = 0 if size < UNRESERVED_BYTES or self.is_closing else size
        if size < self._reservation.size:
            self._reservation.remove(self._reservation.size - size)
        elif size > self._reservation.size:
            try:
                self._reservation.add(size - self._reservation.size)
            except GatewayError as error:
                self.close(CloseCode.TRY_AGAIN_LATER, error.message)

    # ------------------------------------------------------------------------------------------------------- sending
    def send_events(self, block: bytes) -> None:
        """Send each of the server-sent events in ``block``, which are complete, as a message."""
        self._send_texts(_event_texts(block))

    def send_text(self, text: bytes) -> None:
        """Send a message, unless the connection closes."""
        self._send_texts([text])

    def _send_texts(self, texts: Iterable[bytes]) -> None:
        if not self.is_closing:
            for text in texts:
                self._protocol.send_text(text)
            self._collect()

    def ping(self) -> None:
        """Send a ping, which keeps proxies from closing the connection."""
        if not self.is_closing:
            self._protocol.send_ping(b"")
            self._collect()

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, unless one has been sent or received."""
        if not self.is_closing:
            self._protocol.send_close(code, reason)
            self._collect()

    @property
    def has_unsent(self) -> bool:
        """Whether the client has not accepted everything yet."""
        return bool(self.conn.unsent)

    def flush(self) -> None:
        """Send a slice of what the client has not accepted yet."""
        try:
            if self.has_unsent and not self.is_lost and self.conn.unsent.flush(self.conn.sock):
                self.stalled_at = time.monotonic()
        except OSError as error:
            self._lose(error)

    def give_up_if_stalled(self, now: float) -> None:
        """Lose the connection, unless the client has received something since the last look."""
        if self.conn.unsent.has_progressed(self.conn.sock):
            self.stalled_at = now
        else:
            self.is_lost = self.has_stalled = True

    def release(self) -> None:
        """Give back the memory, at the end."""
        self._reservation.release()
        self.messages.clear()

    def _lose(self, error: OSError) -> None:
        self.is_lost, self.has_stalled = True, isinstance(error, TimeoutError)  # the system's: nothing is acknowledged

    def _collect(self) -> None:
        """Send the bytes that the protocol wants to send, as far as the client accepts them."""
        data = b"".join(self._protocol.data_to_send())
        if not data or self.is_lost:
            return
        had_unsent, self.sent_at = self.has_unsent, time.monotonic()
        try:
            self.conn.unsent.write(self.conn.sock, data)
        except OSError as error:
            self._lose(error)
            return
        if self.has_unsent and not had_unsent:
            self.conn.unsent.has_progressed(self.conn.sock)
            self.stalled_at = self.sent_at


def _event_texts(block: bytes) -> list[bytes]:
    """Return the JSON text of each server-sent event in a block of complete ones; other events are left out."""
    texts: list[bytes] = _TYPED_DATA.findall(block)
    data_lines = block.count(b"\ndata") + block.startswith(b"data")  # an event may have several
    if not len(texts) == data_lines == block.count(b"\n\n") or sse.CR in block:
        texts = [text for name, data in sse.iterate(block) if (text := _with_type(name, data)).startswith(b"{")]
    if block.isascii():
        return texts
    return [text.decode("utf-8", "replace").encode() for text in texts]


def _with_type(name: str | None, data: bytes) -> bytes:
    """Return the data of an event with the event's name as its type, if it has no type itself."""
    data = data.strip()
    if name is None or b'"type"' in data or not data.startswith(b"{"):
        return data
    separator = b"" if data[1:].lstrip().startswith(b"}") else b","
    return b'{"type":%b%b%b' % (jsontext.dumps(name), separator, data[1:])
