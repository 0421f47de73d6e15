"""Bytes on the client's connection that two servers in a row may read differently, or that never end."""

import contextlib
import json
import re
import select
import socket
import uuid
from urllib.parse import urlsplit

import pytest

from ..support.readiness import is_readable

PATIENCE = 60
BODY = b'{"model":"model-9","input":"Hi"}'
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n"


class Line:
    """A connection to the gateway, and what came back on it."""

    def __init__(self, gateway):
        parts = urlsplit(gateway.url)
        self.socket = socket.create_connection((parts.hostname, parts.port), PATIENCE)
        self.received = b""

    def send(self, data):
        with contextlib.suppress(OSError):  # the gateway has read enough
            self.socket.sendall(data)

    def read(self):
        """Whether something came; what is not there yet is waited for."""
        try:
            data = self.socket.recv(2**16)
        except ConnectionError:
            return False
        self.received += data
        return bool(data)

    def answers(self, count=1000):
        """(status, headers, body) of each answer: ``count`` of them, or all until the gateway closes the connection."""
        while len(found := list(parsed(self.received))) < count and self.read():
            pass
        return found

    def stands_open(self):
        """Whether the gateway goes on talking."""
        before = len(list(parsed(self.received)))
        self.send(HEALTH)
        return len(self.answers(before + 1)) > before

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def parsed(received):
    while b"\r\n\r\n" in received:
        head, _, rest = received.partition(b"\r\n\r\n")
        headers = dict(re.findall(rb"(?m)^([\w-]+): ?(.*?)\r?$", head.lower()))
        size = int(headers.get(b"content-length", 0))
        if len(rest) < size:
            return
        yield int(head.split(b" ")[1]), headers, rest[:size]
        received = rest[size:]


@pytest.fixture
def line(gateway):
    with Line(gateway) as made:
        yield made


@pytest.fixture
def post(gateway):
    """The head of a request, but for what is said about its body."""
    return b"POST /v1/responses HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %s\r\n" % gateway.key.encode()


@pytest.fixture
def hidden(gateway):
    """A request behind or in another one; asserts afterwards that nobody has served it."""
    word = f"hidden-{uuid.uuid4()}"
    before = len(gateway.log)
    yield f"GET /{word} HTTP/1.1\r\nhost: gateway\r\n\r\n".encode()
    assert word not in gateway.log[before:]
    assert "Traceback" not in gateway.log[before:]


def refused(answers, *statuses):
    """Asserts that there is one answer, an error in OpenAI's shape that ends the connection."""
    ((status, headers, body),) = answers
    assert status in (statuses or (400,)), body
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"} and headers[b"content-type"] == b"application/json"
    assert headers[b"connection"] == b"close"


# ------------------------------------------------------------------------------------------------- where a body ends
BOTH_WAYS = {
    "length, then chunked": LENGTH + CHUNKED,
    "chunked, then length": CHUNKED + LENGTH,
    "the same length twice": LENGTH + LENGTH,
    "two lengths": LENGTH + b"content-length: 3\r\n",
    "a list of lengths": b"content-length: 32, 32\r\n",
    "a length with a sign": b"content-length: +32\r\n",
    "a length in hexadecimal": b"content-length: 0x20\r\n",
    "a length with an underscore": b"content-length: 3_2\r\n",
    "a superscript": b"content-length: \xb2\r\n",
    "a length of thousands of digits": b"content-length: %s\r\n" % (b"9" * 5000),
    "chunked twice": CHUNKED + CHUNKED,
    "chunked, chunked": b"transfer-encoding: chunked, chunked\r\n",
    "something like chunked": b"transfer-encoding: xchunked\r\n",
    "chunked behind a control character": b"transfer-encoding: \x0bchunked\r\n",
    "chunked in quotes": b'transfer-encoding: "chunked"\r\n',
    "a blank before the colon": b"transfer-encoding : chunked\r\n" + LENGTH,
    "a folded header": b"x-a: b\r\n transfer-encoding: chunked\r\n" + LENGTH,
    "a folded value": b"transfer-encoding:\r\n chunked\r\n" + LENGTH,
    "a folded length": b"content-length: 3\r\n\t2\r\n",
    "a line end without CR": b"x-a: b\ntransfer-encoding: chunked\r\n" + LENGTH,
    "a line end without LF": b"x-a: b\rtransfer-encoding: chunked\r\n" + LENGTH,
    "NUL": b"x-a: b\x00c\r\n" + LENGTH,
}


@pytest.mark.parametrize("framing", BOTH_WAYS)
def test_a_head_that_may_be_read_in_two_ways_is_refused(line, post, hidden, framing):
    line.send(post + BOTH_WAYS[framing] + b"\r\n" + CHUNK + b"0\r\n\r\n" + hidden)
    refused(line.answers(), 400, 501)


def test_chunks_in_http_1_0_are_refused(line, post, hidden):
    line.send(post.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + CHUNK + b"0\r\n\r\n" + hidden)
    refused(line.answers())


def test_what_only_looks_like_framing_is_none(line, post):
    line.send(post + b"transfer_encoding: chunked\r\ncontent_length: 3\r\n" + LENGTH + b"\r\n" + BODY + HEALTH)
    assert [status for status, *_ in line.answers(2)] == [404, 200]


DAMAGED = {
    "a size that is none": b"zz\r\nabc\r\n",
    "a size behind a blank": b" 3\r\nabc\r\n",
    "a size with a sign": b"+3\r\nabc\r\n",
    "a size with a prefix": b"0x3\r\nabc\r\n",
    "a size with an underscore": b"0_3\r\nabc\r\n",
    "a size that ends without CR": b"3\nabc\r\n",
    "an extension with LF": b"3;a\nb\r\nabc\r\n",
    "an extension with CR": b"3;a\rb\r\nabc\r\n",
    "a chunk that goes on": b"3\r\nabcXX",
    "a trailer without colon": b"0\r\nnonsense\r\n\r\n",
    "a trailer about the length": b"0\r\ncontent-length: 5\r\n\r\n",
    "a trailer with NUL": b"0\r\nx-a: \x00\r\n\r\n",
    "a folded trailer": b"0\r\nx-a: b\r\n c\r\n\r\n",
    "very many trailers": b"0\r\n" + b"x-a: b\r\n" * 1000 + b"\r\n",
}


@pytest.mark.parametrize("body", DAMAGED)
def test_nothing_behind_a_damaged_body_is_served(line, post, hidden, body):
    line.send(post + CHUNKED + b"\r\n" + DAMAGED[body] + b"0\r\n\r\n" + hidden)
    refused(line.answers())


@pytest.mark.parametrize("body", DAMAGED)
def test_nothing_behind_a_damaged_body_that_nobody_reads_is_served(line, hidden, body):
    line.send(
        b"POST /healthz HTTP/1.1\r\nhost: gateway\r\n" + CHUNKED + b"\r\n" + DAMAGED[body] + b"0\r\n\r\n" + hidden
    )
    ((status, *_),) = line.answers()
    assert status == 405


@pytest.mark.parametrize("head", [b"GET /healthz", b"OPTIONS /healthz", b"POST /healthz", b"DELETE /nothing"])
def test_a_body_that_nobody_reads_is_no_request(line, hidden, head):
    line.send(head + b" HTTP/1.1\r\nhost: gateway\r\ncontent-length: %d\r\n\r\n" % len(hidden) + hidden)
    while b"\r\n\r\n" not in line.received:
        assert line.read()
    assert line.stands_open()


@pytest.mark.parametrize("size", [b"0000020", b"20;a=b", b"20;a", b'20 ;a="b"'])
def test_unusual_chunks_are_one_body(line, post, size):
    line.send(post + CHUNKED + b"\r\n" + CHUNK.replace(b"20", size, 1) + b"0\r\nx-a: b\r\n\r\n")
    ((status, _, body),) = line.answers(1)
    assert (status, json.loads(body)["error"]["code"]) == (404, "model_not_found")
    assert line.stands_open()


def test_what_follows_a_large_body_is_served_next(line, post):
    body = BODY.replace(b"Hi", b"Hi" * 150_000)
    line.send(post + b"content-length: %d\r\n\r\n" % len(body) + body + HEALTH * 2)
    assert [status for status, *_ in line.answers(3)] == [404, 200, 200]


@pytest.mark.parametrize("sent", [0, 1, len(BODY) - 1])
def test_a_body_that_ends_early_is_told_so(line, post, sent):
    line.send(post + LENGTH + b"\r\n" + BODY[:sent])
    line.socket.shutdown(socket.SHUT_WR)
    refused(answers := line.answers())
    assert json.loads(answers[0][2])["error"]["code"] == "invalid_body"


def test_requests_that_are_sent_at_once_are_answered_in_order(line, post):
    line.send(HEALTH + post + LENGTH + b"\r\n" + BODY + post + CHUNKED + b"\r\n" + CHUNK + b"0\r\n\r\n" + HEALTH * 3)
    assert [status for status, *_ in line.answers(6)] == [200, 404, 404, 200, 200, 200]


# ------------------------------------------------------------------------------------------------ what is asked for
ODD_HEADS = {
    "nothing": b"\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.9": b"GET /healthz HTTP/1.9\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "the PROXY protocol": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + HEALTH,
    "TLS": bytes.fromhex("160301020001000001fc0303") + bytes(500),
    "a method in lower case": b"get /healthz HTTP/1.1\r\n\r\n",
    "a method that is no word": b"GE(T /healthz HTTP/1.1\r\n\r\n",
    "NUL in the path": b"GET /heal\x00thz HTTP/1.1\r\n\r\n",
    "a path without slash": b"GET healthz HTTP/1.1\r\n\r\n",
    "a broken host": b"GET http://[::1/healthz HTTP/1.1\r\n\r\n",
    "a header without name": b"GET /healthz HTTP/1.1\r\n: a\r\n\r\n",
    "a header without colon": b"GET /healthz HTTP/1.1\r\nauthorization Bearer a-secret\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "an expectation": b"GET /healthz HTTP/1.1\r\nexpect: miracles\r\n\r\n",
    "ten thousand headers": b"GET /healthz HTTP/1.1\r\n" + b"x-a: b\r\n" * 10_000 + b"\r\n",
    "a header of 1 MB": b"GET /healthz HTTP/1.1\r\nx-a: " + b"b" * 2**20 + b"\r\n\r\n",
    "a path of 1 MB": b"GET /" + b"a" * 2**20 + b" HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("head", ODD_HEADS)
def test_an_odd_head_is_refused(gateway, line, hidden, head):
    line.send(ODD_HEADS[head] + hidden)
    refused(line.answers(), 400, 414, 417, 431)
    assert b"a-secret" not in line.received and "a-secret" not in gateway.log


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"GET http://elsewhere.example/healthz HTTP/1.1", 200),
        (b"GET //healthz HTTP/1.1", 200),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"BREW /healthz HTTP/1.1", 405),
        (b"TRACE /healthz HTTP/1.1", 405),
        (b"GET /healthz HTTP/1.1\r\nupgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMA", 200),
        (b"GET /healthz HTTP/1.1\r\nhost: \xff[]{}\r\nscript-name: /a\r\nx-forwarded-host: b", 200),
    ],
    ids=range(7),
)
def test_an_odd_request_is_served_like_any_other(line, first, status):
    host = b"" if b"host: " in first else b"\r\nhost: gateway"
    line.send(first + host + b"\r\n\r\n")
    assert line.answers(1)[0][0] == status
    assert line.stands_open()


def test_what_follows_a_refused_connect_is_no_request(line, hidden):
    """A client that does not wait for the answer may have sent what is meant for the other end of the tunnel."""
    line.send(b"CONNECT elsewhere.example:443 HTTP/1.1\r\nhost: gateway\r\n\r\n" + hidden)
    refused(line.answers(), 404)


@pytest.mark.parametrize(
    "name", "%2e%2e .. %00 %0d%0aset-cookie:%20a %ff % %zz a%2fb %ed%a0%bd %e2%80%a8 '%20OR%201=1".split()
)
@pytest.mark.parametrize("path", ["/v1/responses/", "/v1/responses/%s/input_items", "/v1/models/"])
def test_an_odd_id_is_an_unknown_one(line, gateway, path, name):
    path = path.replace("%s", name) if "%s" in path else path + name
    key = f"authorization: Bearer {gateway.key}"
    line.send(f"GET {path} HTTP/1.1\r\nhost: gateway\r\n{key}\r\n\r\n".encode())
    ((status, headers, body),) = line.answers(1)
    assert (status, json.loads(body)["error"]["type"]) == (404, "invalid_request_error")
    assert b"set-cookie" not in headers
    assert line.stands_open()


def test_a_client_is_told_to_go_on(line, post):
    line.send(post + LENGTH + b"expect: 100-continue\r\n\r\n")
    assert line.answers(1)[0][0] == 100
    line.send(BODY)
    assert line.answers(2)[1][0] == 404


def test_a_client_is_told_to_go_on_only_if_its_body_is_wanted(line):
    line.send(b"POST /v1/responses HTTP/1.1\r\nhost: gateway\r\nexpect: 100-continue\r\n" + LENGTH + b"\r\n")
    ((status, headers, _),) = line.answers()
    assert (status, headers[b"connection"]) == (401, b"close")


# ------------------------------------------------------------------------------------------------ what does not end
ENDLESS = {
    "a method": (b"", b"G"),
    "headers": (b"GET /healthz HTTP/1.1\r\n", b"x-a: b\r\n"),
    "a header": (b"GET /healthz HTTP/1.1\r\nx-a: ", b"b"),
    "a chunk's size": (b"POST /healthz HTTP/1.1\r\n" + CHUNKED + b"\r\n", b"0"),
    "a chunk's extension": (b"POST /healthz HTTP/1.1\r\n" + CHUNKED + b"\r\n3;", b"a"),
    "trailers": (b"POST /healthz HTTP/1.1\r\n" + CHUNKED + b"\r\n0\r\n", b"x-a: b\r\n"),
    "a trailer": (b"POST /healthz HTTP/1.1\r\n" + CHUNKED + b"\r\n0\r\nx-a: ", b"b"),
}


@pytest.mark.parametrize("what", ENDLESS)
@pytest.mark.parametrize("read", [True, False], ids=["read", "unread"])
def test_what_does_not_end_is_cut_off(line, post, what, read):
    begin, goes_on = ENDLESS[what]
    if read:
        begin = begin.replace(b"POST /healthz HTTP/1.1\r\n", post)
    line.send(begin)
    for _ in range(200):
        line.send(goes_on * (2**16 // len(goes_on)))
        if ended(line):
            break
    assert ended(line), "12 MB were taken"


def ended(line):
    """Whether the gateway has said its last word."""
    while is_readable(line.socket):
        if not line.read():
            return True
    return False


@pytest.fixture(scope="module")
def impatient(start_wired):
    """A gateway that soon gives up on slow clients."""
    return start_wired(client_timeout="0.3")


@pytest.mark.parametrize(
    "begin", [b"GET /healthz HTTP/1.1\r\nx-a: ", b"G", HEALTH + b"GET /"], ids=["header", "method", "second"]
)
def test_a_head_that_trickles_holds_no_thread_for_long(impatient, begin):
    lines = [Line(impatient) for _ in range(4)]
    for line in lines:
        line.send(begin)
    waiting = list(lines)
    while waiting:
        for line in list(waiting):
            line.send(b"a")
            if ended(line):
                waiting.remove(line)
        select.select([], [], [], 0.02)  # slower than the gateway reads
    for line in lines:
        line.socket.close()
    with Line(impatient) as line:
        assert line.stands_open()


def test_a_body_that_stands_still_holds_no_thread_for_long(impatient):
    head = b"POST /v1/responses HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %s\r\n" % impatient.key.encode()
    lines = [Line(impatient) for _ in range(4)]
    for line, framing in zip(lines, [LENGTH + b"\r\n{", CHUNKED + b"\r\n20\r\n{"] * 2, strict=True):
        line.send(head + framing)
    for line in lines:
        assert [status for status, *_ in line.answers()] in ([], [400], [408])
        line.socket.close()
    with Line(impatient) as line:
        assert line.stands_open()


def test_clients_that_do_not_close_a_refused_connection_hold_up_nobody(gateway, line):
    lines = [Line(gateway) for _ in range(50)]
    for each in lines:
        each.send(b"nonsense\r\n\r\n")
        refused(each.answers(1))
    assert line.stands_open()
    for each in lines:
        each.socket.close()
