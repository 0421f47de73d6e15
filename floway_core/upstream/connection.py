"""One request and its answer, on a connection of a pool.

``http.client`` reads chunk by chunk and blocks inside of one. Relaying needs the opposite: everything that has arrived,
at once, and otherwise the chance to look after the client. So urllib3 makes, checks and pools the connections, and what
passes over them is sent and read here.
"""

import ssl
import time

from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from floway_core.contexts import ClientConnection
from floway_core.errors import ClientDisconnected, UpstreamBroken
from floway_core.provider import ResponseBody
from floway_core.upstream.poll import ReadinessPoller
from floway_core.upstream.response_parser import ResponseParser

READ_SIZE = 64 * 1024
NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError)
CLOSED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, UpstreamBroken)
"""What sending or receiving raises when the peer has closed or reset the connection. A timeout is none of them."""

SEND_TIMEOUT = 60.0
"""Seconds that an upstream may take to accept one piece of a request."""

SENT_AT_ONCE = 256 * 1024
"""Bytes of a request that are sent before looking after the client."""


class UpstreamExchange(ResponseBody):
    """Send a request, receive the head of its answer, then read the body; close it in any case."""

    def __init__(self, pool: HTTPConnectionPool, connection: HTTPConnection, *, reused: bool) -> None:
        """:param connection: one of ``pool``, connected, with a timeout of 0.
        :param reused: whether it has served another request before.
        """
        self.answer = ResponseParser()
        self._reused = reused
        self._received = False
        self._pool = pool
        self._connection = connection
        self._socket = connection.sock
        self._tls = isinstance(connection.sock, ssl.SSLSocket)
        self._readiness: ReadinessPoller | None = None
        self._body = b""
        self._closed = False

    def send(self, message: bytes, client: ClientConnection | None) -> None:
        """Send head and body of the request.

        :raises TimeoutError: the upstream does not accept it.
        :raises ClientDisconnected: ``client`` hung up meanwhile.
        """
        whole, sent = memoryview(message), 0
        if not self._tls:
            try:
                sent = self._socket.send(whole)  # as a rule all of it
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                return  # there may be an answer all the same
        if sent == len(whole):
            return
        self._socket.settimeout(SEND_TIMEOUT)
        try:
            for start in range(sent, len(whole), SENT_AT_ONCE):
                if start and client and client.is_closed():
                    raise ClientDisconnected
                self._socket.sendall(whole[start : start + SENT_AT_ONCE])
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            self._socket.settimeout(0)

    def receive_head(self, timeout: float, client: ClientConnection | None) -> None:
        """Wait until the head of the answer is complete; then ``answer`` tells it.

        :param timeout: seconds for the whole head.
        :raises TimeoutError: it was not complete in time.
        :raises OSError: the connection was reset.
        :raises UpstreamBroken: the connection ended, or this is no HTTP.
        :raises ClientDisconnected: ``client`` hung up meanwhile.
        """
        deadline = time.monotonic() + timeout
        while not self.answer.status:
            left = deadline - time.monotonic()
            data = self._receive(left, client) if left > 0 else None
            if data is None:
                raise TimeoutError
            self._body += self.answer.feed(data)

    def was_swallowed(self, error: Exception) -> bool:
        """Whether ``error`` means that a connection from the pool took the request and closed without a byte of answer.

        Upstreams close connections that were idle, or served enough requests, whenever they like. A request that
        crosses that is lost unread, and may be sent again: RFC 9112 section 9.3.1.
        """
        return self._reused and not self._received and isinstance(error, CLOSED)

    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        body, self._body = self._body, b""
        while not body and not self.answer.ended:
            try:
                data = self._receive(timeout, client)
            except OSError:
                raise UpstreamBroken("The upstream reset the connection in the middle of its answer.") from None
            if data is None:
                return None
            body = self.answer.feed(data)
        return body

    def fileno(self) -> int | None:
        return self._socket.fileno()

    def _receive(self, timeout: float, client: ClientConnection | None) -> bytes | None:
        """What has arrived, ``b""`` at the end of the connection, None when nothing came in time.

        :param timeout: 0 leaves the client out of sight, too.
        """
        if self._readiness is None or self._readiness.client is not client:
            self._readiness = ReadinessPoller(self._socket.fileno(), client)
        while True:
            # Nothing is left over from the last time: one read takes a whole record of TLS.
            if timeout and not self._readiness.wait(timeout):
                return None
            try:
                data = self._socket.recv(READ_SIZE)
                self._received = self._received or bool(data)
                return data
            except NOTHING_YET:  # for TLS: there is not yet a whole record
                if not timeout:
                    return None

    def close(self) -> None:
        if self._closed:
            return  # by now the connection may serve another request
        self._closed = True
        if self.answer.reusable and not self._body:
            self._pool._put_conn(self._connection)
        else:
            self._connection.close()
