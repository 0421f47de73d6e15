"""One request and its response, on a connection of a pool.

``http.client`` reads chunk by chunk and blocks inside a chunk. The relay needs all bytes that have arrived, at once,
and must watch the client while it waits. So urllib3 opens and checks the connections, and this file sends and receives
the bytes.
"""

import ssl
import time

from floway_core.contexts import ClientConnection
from floway_core.errors import UpstreamBroken
from floway_core.provider import ResponseBody
from floway_core.receiving import receive
from floway_core.upstream.connection_pool import PooledConnection
from floway_core.upstream.response_parser import ResponseParser

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
CONNECTION_CLOSED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, UpstreamBroken)
"""Errors of sending and receiving after the peer has closed or reset the connection. A timeout is not among them."""

SEND_TIMEOUT_SECONDS = 60.0
"""Time for which an upstream may accept nothing of a request."""

SEND_BYTES = 256 * 1024
"""Bytes of a request to send before the upstream and the client are checked again."""

SEND_RETRY_SECONDS = 1.0
"""Time between two tries to send. The system reports a socket as writable only when much of its buffer is free, and an
upstream that reads slowly may need minutes for that."""


class UpstreamExchange(ResponseBody):
    """Sends a request, receives the head of the response, then reads the body. Close it in any case."""

    has_ended = False
    """See ``ResponseBody.has_ended``. It is read for each event, so it is no property."""

    def __init__(self, connection: PooledConnection, *, reused: bool) -> None:
        """:param reused: whether the connection has served another request before."""
        self.response = ResponseParser()
        self._reused = reused
        self._has_received = False
        self._connection = connection
        self._socket = connection.socket
        self._unsent: bytes | memoryview = b""
        """The rest of the request. Unless it is empty, the connection cannot serve another request."""
        self._is_sending = False
        """Whether to send the rest of the request."""
        self._body = b""
        self._closed = False

    def send(self, message: bytes, client: ClientConnection | None) -> None:
        """Send the request until the response starts: an upstream may refuse a request before it has read all of it.

        After an early refusal the rest is not sent. After another early response, ``read`` sends the rest.

        :param message: its head and body.
        :raises TimeoutError: the upstream does not accept it in time.
        :raises OSError, UpstreamBroken: as ``receive_head``.
        :raises ClientDisconnected: ``client`` disconnected meanwhile.
        """
        self._unsent = message if len(message) <= SEND_BYTES else memoryview(message)
        self._is_sending = True
        self._send_more()  # usually all of it
        if not self._is_sending:
            return
        deadline = time.monotonic() + SEND_TIMEOUT_SECONDS
        while self._is_sending and not self.response.status:
            self._wait(SEND_RETRY_SECONDS, client)
            data = self._receive_now(sends_more=False)
            if data is not None:
                self._body += self.response.feed(data)
            elif self._send_more():
                deadline = time.monotonic() + SEND_TIMEOUT_SECONDS
            elif time.monotonic() >= deadline:
                raise TimeoutError
        if self.response.status >= 300:
            self._is_sending = False

    def _send_more(self) -> bool:
        """Send a part of the rest, without waiting. Return whether the upstream has accepted any."""
        # After TLS would have blocked, it must get the same bytes again.
        part = self._unsent[:SEND_BYTES]
        try:
            count = self._socket.send(part)
        except WOULD_BLOCK:
            return False
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            self._is_sending = False  # the upstream may still have sent a response
            return False
        # An empty view would keep the whole request in memory until the response has ended.
        self._unsent = self._unsent[count:] or b""
        self._is_sending = bool(self._unsent)
        return True

    def receive_head(self, timeout: float, client: ClientConnection | None) -> None:
        """Wait until ``response`` has its status and headers.

        :param timeout: seconds for the whole head.
        :raises TimeoutError: the head was not complete in time.
        :raises OSError: the connection was reset.
        :raises UpstreamBroken: the connection was closed, or the response is not valid HTTP.
        :raises ClientDisconnected: ``client`` disconnected meanwhile.
        """
        deadline = time.monotonic() + timeout
        while not self.response.status:
            data = self._receive(deadline, client)
            if data is None:
                raise TimeoutError
            self._body += self.response.feed(data)

    def may_resend(self, error: Exception) -> bool:
        """Return whether ``error`` means that a reused connection closed without a byte of response.

        Upstreams close idle connections at any time. If a request is on its way then, the upstream has not processed
        it, and it may be sent again: RFC 9112 section 9.3.1.
        """
        return self._reused and not self._has_received and isinstance(error, CONNECTION_CLOSED)

    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        """See ``ResponseBody.read``."""
        body, response = self._body, self.response
        if body:
            self._body = b""
        if response.is_broken and not body:
            response.feed(b"")  # raises; nothing more needs to arrive
        while not body and not response.ended:
            try:
                data = self._receive(time.monotonic() + timeout, client) if timeout else self._receive_now()
            except OSError:
                raise UpstreamBroken("The upstream reset the connection in the middle of its answer.") from None
            if data is None:
                return None
            body = response.feed(data)
        self.has_ended = response.ended
        return body

    def fileno(self) -> int | None:
        """See ``ResponseBody.fileno``. None while ``read`` still has to send a part of the request."""
        return None if self._is_sending else self._socket.fileno()

    def _receive(self, deadline: float, client: ClientConnection | None) -> bytes | None:
        """Wait for bytes, and receive them.

        :param deadline: in monotonic time.
        :returns: ``b""`` at the end of the connection; None if nothing arrived in time.
        """
        # TLS has no buffered bytes that the poller cannot see: READ_BYTES is more than one record.
        while (remaining := deadline - time.monotonic()) > 0 and self._wait(remaining, client):
            data = self._receive_now()
            if data is not None:
                return data
        return None

    def _wait(self, timeout: float, client: ClientConnection | None) -> bool:
        """Wait until the connection can be used; see ``ReadinessPoller.wait``."""
        poller = self._connection.poller
        if poller.client is not client:
            poller.watch(client)
        return poller.wait(timeout, writable=self._is_sending)

    def _receive_now(self, *, sends_more: bool = True) -> bytes | None:
        """Receive the bytes that have arrived. Neither waits nor watches the client.

        :param sends_more: whether to send more of the request before.
        :returns: None if nothing has arrived, or only a part of a TLS record.
        """
        if self._is_sending and sends_more:
            self._send_more()
        try:
            data = receive(self._socket)
        except WOULD_BLOCK:
            return None
        if data:
            self._has_received = True
        return data

    def close(self) -> None:
        """Return the connection to the pool if it can be used again; close it otherwise."""
        if self._closed:
            return  # the connection may serve another request by now
        self._closed = True
        self.response.close()
        if self.response.reusable and not self._body and not self._unsent:
            self._connection.release()
        else:
            self._connection.close()
