"""Requests of the gateway's own, such as for model lists, are limited in size and in time as a whole."""

import contextlib
import gzip
import socket
import threading

import pytest

from floway_core.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from floway_core.runtime.settings_loader import load_settings
from floway_core.testing import Reply, Step
from floway_core.upstream import HttpClient
from floway_core.upstream.http import MAX_FETCHED_BYTES

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"


@pytest.fixture
def client():
    return HttpClient(load_settings({}))


@contextlib.contextmanager
def dripping_server(beginning):
    """Sends ``beginning``, and then a byte every now and then, until the peer disconnects."""
    is_closed = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(beginning)
                while not is_closed.wait(0.05):
                    connection.sendall(b"x")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield "http://{}:{}/".format(*listener.getsockname())
        finally:
            is_closed.set()
            thread.join(20)


@pytest.mark.parametrize("beginning", [HEAD + b"content-length: 100000\r\n\r\n", HEAD + b"\r\n"])
def test_a_response_that_drips_is_given_up(client, beginning):
    with dripping_server(beginning) as url, pytest.raises(UpstreamTimeout, match="did not answer in time"):
        client.fetch("GET", url, {}, timeout=0.5)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_a_response_may_not_be_too_long(client, fake_upstream, layers):
    content = bytes(MAX_FETCHED_BYTES + 1)
    for _ in range(layers):
        content = gzip.compress(content)
    codings = [("content-encoding", ", ".join(["gzip"] * layers))] if layers else []
    fake_upstream.script(Reply([content], headers=codings, framing="length"))
    with pytest.raises(UpstreamBroken, match="longer than"):
        client.fetch("GET", fake_upstream.url, {})


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("coding", ["gzip", "identity"])
def test_a_whole_response(client, fake_upstream, framing, coding):
    content = gzip.compress(b"hello") if coding == "gzip" else b"hello"
    headers = [("content-encoding", coding), ("x-names", "One")]
    fake_upstream.script(Reply([content[:3], content[3:]], 404, headers, framing))
    response = client.fetch("POST", f"{fake_upstream.url}/path?a=1", {"X-Name": "One", "accept": "*/*"}, b"body")
    assert (response.status_code, response.content, response.text) == (404, b"hello", "hello")
    assert response.headers["X-Names"] == "One"
    (sent,) = fake_upstream.requests
    assert (sent.method, sent.path, sent.body) == ("POST", "/path?a=1", b"body")
    assert [name for name, _ in sent.headers] == ["X-Name", "accept", "host", "content-length"]


def test_each_request_has_a_new_connection_and_a_get_has_no_length(client, fake_upstream):
    fake_upstream.script(Reply([b"1"]), Reply([b"2"]))
    assert [client.fetch("GET", fake_upstream.url, {}).content for _ in range(2)] == [b"1", b"2"]
    assert fake_upstream.connections == 2
    assert [name for name, _ in fake_upstream.requests[0].headers] == ["host"]


@pytest.mark.parametrize("step", [Step.CUT, Step.RESET])
@pytest.mark.parametrize("has_started", [False, True])
def test_a_response_that_breaks_off_is_none(client, fake_upstream, step, has_started):
    fake_upstream.script(Reply([b"1", step]) if has_started else Reply(before=[step]))
    with pytest.raises(UpstreamUnreachable):
        client.fetch("GET", fake_upstream.url, {})


def test_a_head_has_no_body(client, fake_upstream):
    fake_upstream.script(Reply(headers=[("content-length", "100")]))
    assert client.fetch("HEAD", fake_upstream.url, {}).status_code == 200
