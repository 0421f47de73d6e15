"""One request of a client with its response, which threads and the stream loop send in turn."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gunicorn.workers.gthread import TConn

from floway_core.engine.relay import Relay
from floway_core.server.response_writer import ResponseWriter
from floway_core.server.stream_loop import Stream
from floway_core.web import RELAY


@dataclass(eq=False)
class ClientExchange:
    """One request of a client, and the response while it is being sent."""

    conn: TConn
    request: Any
    response: ResponseWriter
    environ: dict[str, Any]
    body: Any = ()
    """What the application returned."""
    pieces: Iterator[bytes | None] = field(default_factory=lambda: iter(()))
    """The rest of the body. ``b""`` and None only come from a relay: see ``Stream.pieces``."""
    stream: Stream | None = None
    """The response while the stream loop has it."""
    started: datetime = field(default_factory=datetime.now)

    @property
    def relay(self) -> Relay | None:
        """The source of a stream; None for another response."""
        relay: Relay | None = self.environ.get(RELAY)
        return relay

    def resume_waiting(self) -> None:
        """Let the relay wait for its upstream again, because a thread sends the response."""
        if self.relay:
            self.relay.set_blocking()

    def start_or_resume(self) -> int | None:
        """Prepare ``pieces``, at the start of the response or after the stream loop.

        :returns: the upstream's descriptor, if ``pieces`` do not wait for the upstream.
        :raises OSError: the response ends early.
        """
        if self.stream is None:
            self.pieces = iter(self.body)
            # The stream loop sends on plain sockets only.
            return self.relay.set_nonblocking() if self.relay and type(self.conn.sock) is socket.socket else None
        stream, self.stream = self.stream, None
        self.resume_waiting()
        if stream.error:
            raise stream.error
        self.response.sent += stream.sent
        self.conn.sock.sendall(stream.unsent)
        return None

    def make_stream(self, upstream: int, on_leave: Callable[["ClientExchange"], None]) -> Stream:
        """Make the stream for the stream loop.

        :param upstream: the upstream's descriptor.
        :param on_leave: called when the stream needs a thread again.
        """
        self.stream = Stream(
            pieces=self.pieces,
            upstream=upstream,
            client=self.conn.sock,
            chunked=self.response.chunked,
            on_leave=lambda stream: on_leave(self),
        )
        return self.stream
