"""One request of a client with its response. Threads and the stream loop send it in turn."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from floway_core.engine.client_stream import ENDED, WAITING, ClientStream
from floway_core.server.connection import Connection
from floway_core.server.response_writer import ResponseWriter
from floway_core.server.stream_loop import Stream


@dataclass(eq=False)
class ClientExchange:
    """One request of a client, and the response while it is being sent."""

    conn: Connection
    request: Any
    response: ResponseWriter
    environ: dict[str, Any]
    body: Iterable[bytes] = ()
    """The body that the application returned. A ``ClientStream`` can be sent without a thread while it waits."""
    stream: Stream | None = None
    """The response while the stream loop has it."""

    def send(self, on_leave: Callable[["ClientExchange"], None]) -> Stream | None:
        """Send the response, or its rest after the stream loop. The main loop sends the bytes that remain in the
        connection's ``unsent``.

        :param on_leave: called in the stream loop, when the stream needs a thread again.
        :returns: the stream for the stream loop to continue; None if the response is complete.
        :raises OSError: the response ends early.
        """
        answer, conn = self.body, self.conn
        if not isinstance(answer, ClientStream):
            for piece in answer:
                conn.unsent.wait(conn.sock)  # hold one piece at most
                if piece:
                    self.response.write(piece)
            return None
        if self.stream is not None:
            self._take_back(self.stream)
            upstream = answer.fileno() if answer.is_interlude else None
        else:
            upstream = answer.fileno()
        while answer.state is not ENDED:
            if upstream is None and answer.state is WAITING:
                conn.unsent.wait(conn.sock)
            if sent := answer.advance(wait=upstream is None):
                self.response.write(sent)
            if upstream is not None and answer.state is WAITING and (conn.unsent or not sent):
                return self._make_stream(answer, upstream, on_leave)
        return None

    def _make_stream(self, answer: ClientStream, upstream: int, on_leave: Callable[["ClientExchange"], None]) -> Stream:
        self.response.send_head()
        self.stream = Stream(
            answer=answer,
            upstream=upstream,
            client=self.conn.sock,
            chunked=self.response.chunked,
            on_leave=lambda stream: on_leave(self),
            unsent=self.conn.unsent,
        )
        return self.stream

    def _take_back(self, stream: Stream) -> None:
        """Continue after the stream loop. From now on a thread waits, if that is still necessary."""
        self.stream = None
        if error := stream.error:
            try:
                raise error
            finally:
                stream.error = error = None  # its traceback refers to this frame
        self.response.sent += stream.sent
