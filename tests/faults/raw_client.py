"""A client that does what an HTTP library would not: read little, send half, keep its connection."""

import json
import socket
import time
from urllib.parse import urlsplit

PATIENCE = 60
"""Seconds; only a failing test waits as long."""


def connect(gateway, *, receive_buffer=None):
    """A connection to ``gateway``.

    :param receive_buffer: bytes that the system takes on behalf of a client that does not read.
    """
    place = urlsplit(gateway.url)
    connection = socket.socket()
    connection.settimeout(PATIENCE)
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect((place.hostname, place.port))
    return connection


def is_refused(gateway):
    """Whether nobody listens any more."""
    try:
        connect(gateway).close()
    except ConnectionRefusedError:
        return True
    return False


def request(gateway, upstream, *, length=None, **fields):
    """The bytes of a request for a response.

    :param length: what is said of the length of the body, if that is not the truth.
    """
    body = json.dumps({"model": "model-1", "input": "Hi", **fields}).encode()
    lines = [
        "POST /v1/responses HTTP/1.1",
        "host: gateway",
        f"authorization: Bearer {gateway.key}",
        f"x-test-upstream: {upstream}",
        f"content-length: {length or len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_until(connection, marker):
    """Everything received up to and including ``marker``, and perhaps more."""
    received = b""
    while marker not in received:
        piece = connection.recv(2**16)
        assert piece, received
        received += piece
    return received


def wait_for(condition, patience=PATIENCE):
    """Wait until ``condition()`` holds; fail if it never does."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
