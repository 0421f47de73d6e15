"""The simulated backend's WebSocket: takes frames off the connection and sends messages."""

import socket
from typing import TYPE_CHECKING

from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from .fingerprint import RESPONSES
from .frames import Outcome, Session, upgrade_headers
from .recording import RecordedRequest, decode_request
from .responses import PlainResponse, RequestRefused, json_response
from .simulation import FRAME

if TYPE_CHECKING:
    from .http_server import Handler

MAX_MESSAGE_BYTES = 256 * 2**20
READ_BYTES = 2**18


def is_upgrade(request: RecordedRequest) -> bool:
    """Whether a request asks for a WebSocket at the path that has one."""
    is_path = request.path.partition("?")[0] == f"/backend-api/codex/{RESPONSES}"
    return request.method == "GET" and is_path and request.header("sec-websocket-key") is not None


def serve(handler: "Handler", request: RecordedRequest) -> None:
    """Answer an upgrade, and then the frames until the client leaves."""
    simulation = handler.server.simulation
    try:
        response = refusal(handler, request)
        if response is not None:
            request.status, request.answered = response.status, response.note
            handler.send(response)
        elif simulation.websockets.ignores:
            handler.wait_for_client(None)
        else:
            WebSocket(handler, request).serve()
    except OSError:
        request.client_gone.set()
    finally:
        request.done.set()


def refusal(handler: "Handler", request: RecordedRequest) -> PlainResponse | None:
    """The answer to an upgrade that is refused; None if it is not."""
    status = handler.server.simulation.websockets.refusal()
    if status is not None:
        return json_response(status, {"detail": "no"}, note=f"{status} no websocket")
    try:
        Session(handler.server.simulation.backend, request).check_upgrade()
    except RequestRefused as refused:
        return refused.response
    return None


class WebSocket:
    """One connection after its upgrade."""

    def __init__(self, handler: "Handler", upgrade: RecordedRequest) -> None:
        self.handler, self.upgrade = handler, upgrade
        self.simulation = handler.server.simulation
        self.behaviour = self.simulation.websockets
        self.session = Session(self.simulation.backend, upgrade)
        extensions = [ServerPerMessageDeflateFactory()] if self.behaviour.compresses else None
        self.protocol = ServerProtocol(extensions=extensions, max_size=MAX_MESSAGE_BYTES)
        self.socket: socket.socket = handler.connection
        self.parts: list[bytes] = []

    def serve(self) -> None:
        """Answer each frame; ends when the client leaves or the script says so."""
        self.accept()
        self.upgrade.status, self.upgrade.answered = 101, "101"
        self.behaviour.sessions.append(self)
        try:
            while message := self.read():
                frame = decode_request(FRAME, self.upgrade.path, self.upgrade.headers, message)
                self.simulation.log.add(frame)
                self.simulation.wait_while_held()
                outcome = self.session.answer(frame)
                frame.answered = outcome.note
                try:
                    if not self.send(outcome):
                        return
                except OSError:
                    frame.client_gone.set()
                    raise
                finally:
                    frame.done.set()
            self.upgrade.client_gone.set()
        finally:
            self.behaviour.sessions.remove(self)

    def ping(self) -> None:
        """Send a ping. Only while the connection is idle."""
        self.protocol.send_ping(b"still there?")
        self.flush()

    def close(self, code: int | None) -> None:
        """Send a close frame, or break the connection. Only while it is idle."""
        if code is None:
            self.socket.shutdown(socket.SHUT_RDWR)
        else:
            self.protocol.send_close(code)
            self.flush()

    def accept(self) -> None:
        """Answer the upgrade with 101."""
        account = self.simulation.backend.check_account(self.upgrade)
        # the server has read the request already; the protocol reads it once more
        self.protocol.receive_data(Request(self.upgrade.path, Headers(self.upgrade.headers)).serialize())
        (request,) = self.protocol.events_received()
        assert isinstance(request, Request)
        response = self.protocol.accept(request)
        limit = self.behaviour.max_message_bytes
        more = [("x-codex-websocket-max-message-bytes", str(limit))] if limit is not None else []
        for name, value in [*upgrade_headers(account), *more, *self.behaviour.headers]:
            response.headers[name] = value
        self.protocol.send_response(response)
        self.flush()

    def read(self) -> bytes | None:
        """The next text message; None when the client has left."""
        while True:
            for event in self.protocol.events_received():
                self.behaviour.pongs += isinstance(event, Frame) and event.opcode is Opcode.PONG
                if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.CONT):
                    self.parts.append(bytes(event.data))
                    if event.fin:
                        message, self.parts = b"".join(self.parts), []
                        return message
            if self.protocol.state is not State.OPEN:  # the client has closed it properly, which the CLI never does
                return None
            data = self.socket.recv(READ_BYTES)
            self.behaviour.bytes_received += len(data)
            if not data:
                return None
            self.protocol.receive_data(data)
            self.flush()

    def send(self, outcome: Outcome) -> bool:
        """Send the answer to a frame. Return whether the connection goes on."""
        for delay, message in outcome.messages:
            self.wait(delay)
            self.send_message(message)
        if outcome.raw:
            self.socket.sendall(outcome.raw)
        if outcome.then == "hang":
            self.handler.wait_for_client(None)
        if isinstance(outcome.then, int):
            self.protocol.send_close(outcome.then, "scripted")
            self.flush()
            self.socket.recv(READ_BYTES)
        return outcome.then == "end"

    def send_message(self, message: bytes) -> None:
        """Send a message, in fragments if that is asked for."""
        size = self.behaviour.fragment_bytes or len(message) or 1
        pieces = [message[start : start + size] for start in range(0, len(message), size)] or [b""]
        for number, piece in enumerate(pieces):
            fin = number == len(pieces) - 1
            if number:
                self.protocol.send_continuation(piece, fin)
            else:
                self.protocol.send_text(piece, fin)
        self.flush()

    def wait(self, delay: float) -> None:
        """Wait before a message. A client that leaves meanwhile is noticed."""
        if delay:
            self.handler.wait_for_client(delay)

    def flush(self) -> None:
        """Write what the protocol has to send."""
        data = b"".join(self.protocol.data_to_send())
        if data:
            self.socket.sendall(data)
