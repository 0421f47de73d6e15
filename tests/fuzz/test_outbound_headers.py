"""Nothing that a client or a plugin writes into a header becomes another header of the request upstream."""

import contextlib
import json
import queue
import re
import socket
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floway_core.errors import GatewayError
from floway_core.testing import message_stream
from floway_core.testing.fuzz import examples

from ..support.raw_upstream import NOBODY, PATIENCE, RawUpstream, new_client, read_whole

FIT = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# What ends a line for somebody, and what only looks like it.
BREAKS = [
    "\r\n",
    "\n",
    "\r",
    "\n ",
    "\r\n\t",
    "\0",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1e",
    "\x7f",
    "\x85",
    "\u2028",
    "\u560d\u560a",
]
PIECE = st.sampled_from([*BREAKS, "x-made-up: 1", ": ", "content-length: 0", "é", "\ud83d", "€", "a", " "])
VALUE = st.lists(PIECE, max_size=5).map("".join) | st.text(max_size=20)
NAME = st.sampled_from(["x-a", "X-B", "user-agent", "host", "accept"]) | st.builds("x-{}".format, VALUE)
ANSWER = b"".join(message_stream())


def answering(talk):
    while True:
        talk.request()
        talk.answer(ANSWER)


@pytest.fixture(scope="module")
def upstream():
    with RawUpstream(answering) as made:
        yield made


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return new_client(tmp_path_factory.mktemp("client"))


@examples(150)
@given(headers=st.dictionaries(NAME, VALUE, max_size=4))
def test_headers_arrive_as_they_are_or_not_at_all(upstream, client, headers):
    fit = all(TOKEN.fullmatch(name) and FIT.fullmatch(value) for name, value in headers.items())
    try:
        read_whole(client.stream(NOBODY, "POST", f"{upstream.url}/answers", headers, b"{}"))
    except GatewayError as refused:
        assert refused.status == 400
        assert not fit
        with pytest.raises(queue.Empty):
            upstream.heads.get_nowait()
        return
    assert fit
    first, *lines = upstream.heads.get(timeout=PATIENCE).removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert first == b"POST /answers HTTP/1.1"
    expected = [f"{name}: {value}".encode("latin-1") for name, value in headers.items()]
    assert lines[: len(expected)] == expected
    own = {line.split(b":")[0] for line in lines[len(expected) :]}
    assert own <= {b"host", b"content-length"}


@examples(60)
@given(value=st.binary(max_size=30) | VALUE.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_what_a_client_sends_in_a_header_stays_in_it(gateway, upstream, value):
    """The provider of the tests copies the client's headers as they came."""
    body = json.dumps({"model": "model-1", "input": "Hi", "store": False}).encode()
    head = [
        f"POST /v1/responses HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {gateway.key}".encode(),
        f"x-test-upstream: {upstream.url}".encode(),
        b"x-test-odd: " + value,
        b"content-length: %d" % len(body),
        b"connection: close",
    ]
    parts = urlsplit(gateway.url)
    answer = b""
    with socket.create_connection((parts.hostname, parts.port), PATIENCE) as line, contextlib.suppress(ConnectionError):
        line.sendall(b"\r\n".join([*head, b"", body]))
        while data := line.recv(2**16):
            answer += data
    try:
        received = upstream.heads.get_nowait()
    except queue.Empty:
        assert b" 4" in answer[:12] or not answer
        return
    lines = received.split(b"\r\n")
    own = value.partition(b"\r\n")[0]  # behind it the client began another header, which is not copied
    assert lines.count(b"x-test-odd: " + own.strip(b" \t")) == 1
    names = [line.partition(b":")[0].lower() for line in lines]
    assert b"x-made-up" not in names and names.count(b"content-length") == 1


TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)


@examples(60)
@given(
    fields=st.dictionaries(
        st.sampled_from(
            ["user", "metadata", "prompt_cache_key", "safety_identifier", "client_metadata", "instructions"]
        ),
        VALUE | TEXT | st.dictionaries(VALUE, VALUE, max_size=2),
    ),
    model=VALUE | st.just("model-1"),
    previous=st.none() | VALUE,
)
def test_nothing_of_a_body_becomes_a_header(ask, upstream, fields, model, previous):
    body = {**fields, "model": model, "input": "Hi", "previous_response_id": previous, "store": False}
    answer = ask.post(body, x_test_upstream=upstream.url)
    assert answer.status in (200, 400, 404)
    assert {name.lower() for name in answer.headers} <= {
        "server", "date", "connection", "content-type", "content-length", "transfer-encoding", "x-request-id"
    }  # fmt: skip
    if answer.status == 200:
        names = {line.split(b":")[0].lower() for line in upstream.heads.get(timeout=PATIENCE).split(b"\r\n")[1:-2]}
        assert names == {b"host", b"content-type", b"content-length", b"x-state", b"x-test-upstream"}
