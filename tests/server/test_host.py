"""The header ``host``: one of it in every request of HTTP/1.1, as RFC 9112 demands (section 3.2)."""

import json
import socket
from urllib.parse import urlsplit

import pytest


def exchange(gateway, head):
    place = urlsplit(gateway.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(head + b"connection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(2**16), b""))


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: a\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nhOST: b\r\n", 400),
        (b"GET /healthz HTTP/1.0\r\nhost: a\r\nhost: b\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nhost:\r\n", 200),
        (b"GET /healthz HTTP/1.0\r\n", 200),
    ],
)
def test_the_host_header(gateway, head, status):
    answer = exchange(gateway, head)
    assert answer.split()[1] == str(status).encode()
    if status == 400:
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert error["code"] == "invalid_http"
