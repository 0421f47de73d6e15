"""One WebSocket connection to the backend. The library ``websockets`` implements the protocol, this file the I/O."""

import socket
import ssl
import time
from collections.abc import Mapping, Sequence

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.uri import parse_uri

from floway_core.contexts import ClientConnection
from floway_core.errors import ClientDisconnected, GatewayError
from floway_core.upstream.http import INVALID_HEADER
from floway_core.upstream.poll import ReadinessPoller

MAX_MESSAGE_BYTES = 64 * 2**20
"""Limit for one message of the backend, after decompression. It may hold a whole response with images."""
READ_BYTES = 64 * 1024
"""More than one TLS record, so that no decrypted bytes stay in the TLS layer, where no descriptor shows them."""
SEND_BYTES = 256 * 1024
"""Bytes of a message to send before the next check whether the client is still connected."""
SEND_TIMEOUT_SECONDS = 60.0
"""Time for the backend to accept ``SEND_BYTES``."""
LEVEL = 3
"""Of compression: 13 % longer than with zlib's default of 6, in half the time."""
MEMORY_LEVEL = 5
"""Of the compressor, which lives as long as the connection: 147 KB instead of 268 KB."""
MAX_MESSAGE_HEADER = "x-codex-websocket-max-message-bytes"
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

DEFLATE = "permessage-deflate"


class ConnectionLost(Exception):
    """The connection has ended, or the backend violates the protocol."""

    def __init__(self, code: int | None = None) -> None:
        """:param code: of the backend's close frame; None if it sent none."""
        super().__init__(code)
        self.code = code


class UpgradeRefused(Exception):
    """The backend answered the upgrade with another status than 101."""

    def __init__(self, status: int, headers: Sequence[tuple[str, str]] = (), content: bytes = b"") -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.content = content


class WebSocketConnection:
    """A connection, from its upgrade until it is closed. Only one thread at a time may use it."""

    def __init__(self, opened: socket.socket, url: str, headers: Mapping[str, str], token: str) -> None:
        """:param opened: connected, with TLS if the URL has it.
        :param url: ``http`` or ``https``.
        :param headers: of the upgrade, in order. ``Host`` and ``Sec-WebSocket-Key`` are filled in.
        :param token: the access token in them.
        :raises GatewayError: a header is not valid HTTP.
        """
        self.token = token
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise GatewayError(400, INVALID_HEADER)  # the message does not quote it, because it may be secret
        opened.settimeout(0)
        uri = parse_uri(f"ws{url.removeprefix('http')}")
        offer = next((value for name, value in headers.items() if name.lower() == "sec-websocket-extensions"), "")
        deflate = ClientPerMessageDeflateFactory(
            client_max_window_bits=True, compress_settings={"level": LEVEL, "memLevel": MEMORY_LEVEL}
        )
        self._protocol = ClientProtocol(
            uri, extensions=[deflate] if offer.startswith(DEFLATE) else None, max_size=MAX_MESSAGE_BYTES
        )
        usual = self._protocol.connect().headers
        filled = {
            name: usual[name] if name in ("Host", "Sec-WebSocket-Key") else text for name, text in headers.items()
        }
        self._request = Request(uri.resource_name, Headers(filled))
        self._socket = opened
        self._poller: ReadinessPoller | None = None
        self._fragments: list[bytes] = []
        self._messages: list[bytes] = []
        self._unsent = b""
        self._lost: ConnectionLost | None = None
        self.is_closed = False
        self.headers: list[tuple[str, str]] = []
        """Those of the answer to the upgrade, names in lower case."""
        self.max_message_bytes: int | None = None
        """The longest message that the backend accepts; None if it states no limit."""

    def upgrade(self, timeout: float, client: ClientConnection | None) -> None:
        """Upgrade the connection.

        :param timeout: seconds for the whole answer.
        :raises UpgradeRefused: the backend answered with another status than 101.
        :raises ConnectionLost: it closed the connection, or its answer is not valid.
        :raises TimeoutError: it did not answer in time.
        :raises ClientDisconnected, ShuttingDown: the client disconnected, or the gateway shuts down.
        """
        self._protocol.send_request(self._request)
        self._send(b"".join(self._protocol.data_to_send()), client)
        deadline = time.monotonic() + timeout
        while not self.headers:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not self._receive(remaining, client):
                raise TimeoutError
            self._check_upgrade()
        limit = dict(self.headers).get(MAX_MESSAGE_HEADER, "")
        self.max_message_bytes = int(limit) if limit.isascii() and limit.isdigit() else None

    def _check_upgrade(self) -> None:
        refusal = self._protocol.handshake_exc
        if isinstance(refusal, InvalidStatus):
            response = refusal.response
            raise UpgradeRefused(response.status_code, _pairs(response), bytes(response.body or b""))
        if refusal is not None or (self._lost and not self.headers):
            raise ConnectionLost from refusal

    def send(self, message: bytes, client: ClientConnection | None) -> None:
        """Send a text message.

        :raises ConnectionLost: the connection has ended.
        :raises TimeoutError: the backend does not accept it in time.
        :raises ClientDisconnected: ``client`` disconnected meanwhile.
        """
        if self._lost:
            raise self._lost
        self._protocol.send_text(message)
        self._send(self._unsent + b"".join(self._protocol.data_to_send()), client)
        self._unsent = b""

    def read(self, timeout: float, client: ClientConnection | None = None) -> list[bytes] | None:
        """Return the messages that are complete; wait for something to arrive.

        :param timeout: in seconds. With 0 the call never blocks.
        :returns: messages, none if what has arrived completes none; None if nothing arrived in time.
        :raises ConnectionLost: after the last message.
        :raises ClientDisconnected, ShuttingDown: the client disconnected, or the gateway shuts down.
        """
        if not self._messages and not self._lost and not self._receive(timeout, client):
            return None
        messages, self._messages = self._messages, []
        if not messages and self._lost:
            raise self._lost
        return messages

    def fileno(self) -> int:
        """A descriptor that becomes readable when ``read(0)`` may return something."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection without a close frame, as the CLI does."""
        self.is_closed = True
        self._socket.close()

    # ---------------------------------------------------------------------------------------------------------- bytes
    def _send(self, data: bytes, client: ClientConnection | None) -> None:
        self._socket.settimeout(SEND_TIMEOUT_SECONDS)
        try:
            for start in range(0, len(data), SEND_BYTES):
                if start and client and client.is_closed():
                    raise ClientDisconnected
                self._socket.sendall(memoryview(data)[start : start + SEND_BYTES])
        except TimeoutError:
            raise
        except OSError as error:
            raise ConnectionLost from error
        finally:
            self._socket.settimeout(0)

    def _receive(self, timeout: float, client: ClientConnection | None) -> bool:
        """Receive and parse what has arrived. Return False if nothing arrives within ``timeout`` seconds."""
        if timeout:
            if self._poller is None or self._poller.client is not client:
                self._poller = ReadinessPoller(self._socket.fileno(), client)
            if not self._poller.wait(timeout):
                return False
        try:
            data = self._socket.recv(READ_BYTES)
        except WOULD_BLOCK:
            return bool(timeout)  # TLS: the record is not complete yet
        except OSError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
            self._lost = self._lost or ConnectionLost()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take_frame(event)
            elif isinstance(event, Response) and event.status_code == 101:
                self.headers = _pairs(event)
        if self._protocol.parser_exc is not None:
            self._lost = self._lost or ConnectionLost()
        self._answer_pings()
        return True

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            received = self._protocol.close_rcvd
            self._lost = self._lost or ConnectionLost(received.code if received else None)
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.fin and not self._fragments:
                self._messages.append(bytes(frame.data))
                return
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                self._messages.append(b"".join(self._fragments))
                self._fragments = []

    def _answer_pings(self) -> None:
        """Send the pongs that are due, as far as that does not block; never a close frame."""
        pongs = b"".join(self._protocol.data_to_send())
        if self._lost or not (pongs or self._unsent):
            return
        self._unsent += pongs
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except WOULD_BLOCK:
            pass
        except OSError:
            pass  # the next read finds the closed connection


def _pairs(response: Response) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in response.headers.raw_items()]
