"""A client of the Responses API over a WebSocket: sends any frame, and receives what comes."""

import contextlib
import json
import socket
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PATIENCE = 60
"""Seconds; only a failing test waits as long."""
TERMINAL = ("response.completed", "response.incomplete", "response.failed")

UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
"""The headers of an upgrade."""


def is_last(event):
    """Whether an event is the last one of an answer.

    An ``error`` with a status is the answer to a refused request. One without is part of a stream, and
    ``response.failed`` follows.
    """
    return event["type"] in TERMINAL or (event["type"] == "error" and "status" in event)


class WebSocketClient:
    """An open WebSocket."""

    def __init__(self, gateway, headers=None, path="/v1/responses", **options):
        """:param headers: further headers of the upgrade."""
        sent = {"authorization": f"Bearer {gateway.key}", **(headers or {})}
        options = {"compression": None, "proxy": None, "ping_interval": None, "max_size": None, **options}
        url = f"ws://{urlsplit(gateway.url).netloc}{path}"
        self.connection = connect(url, additional_headers=sent, open_timeout=PATIENCE, **options).__enter__()

    def send(self, **message):
        self.connection.send(json.dumps(message))

    def create(self, given="Hi", *, model="model-1", **fields):
        self.send(type="response.create", model=model, input=given, **fields)

    def receive(self):
        return json.loads(self.connection.recv(PATIENCE))

    def receive_until(self, *types):
        """All events up to the first that has one of ``types``."""
        events = [self.receive()]
        while events[-1]["type"] not in types:
            events.append(self.receive())
        return events

    def receive_answer(self):
        """All events up to the end of an answer."""
        events = [self.receive()]
        while not is_last(events[-1]):
            events.append(self.receive())
        return events

    def respond(self, given="Hi", **fields):
        """Send a request, and return all events of its answer."""
        self.create(given, **fields)
        return self.receive_answer()

    def turn(self, given="Hi", **fields):
        """The response object of a request that has to succeed."""
        last = self.respond(given, **fields)[-1]
        assert last["type"] == "response.completed", last
        return last["response"]

    def refused(self, status, code, given="Hi", **fields):
        """The ``error`` of a request that has to be refused."""
        error = self.respond(given, **fields)[-1]
        assert (error["type"], error.get("status")) == ("error", status), error
        assert error["error"]["code"] == code, error
        return error["error"]

    def close_code(self):
        """Wait until the connection is closed, and return the code that came."""
        try:
            while True:
                self.connection.recv(PATIENCE)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None

    def send_bytes(self, data):
        """Send bytes as they are, past the library."""
        self.connection.socket.sendall(data)

    def drop(self):
        """Close the TCP connection, without a close frame."""
        with contextlib.suppress(OSError):  # it may have ended
            self.connection.socket.shutdown(socket.SHUT_RDWR)
        self.connection.socket.close()
