"""Bodies that arrive in many pieces, or with bytes of another response."""

import pytest

from floway_core.upstream.response_parser import ResponseParser

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%X\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_pieces_of_a_body_are_joined(size):
    pieces = [b"a", b"bc" * 50, b"d\n\n"]
    message, parser, body = HEAD + b"".join(map(chunk, pieces)) + END, ResponseParser(), b""
    for start in range(0, len(message), size):
        body += parser.feed(message[start : start + size])
    assert (body, parser.ended, parser.reusable) == (b"".join(pieces), True, True)


def test_another_response_adds_nothing_to_the_body():
    parser = ResponseParser()
    assert parser.feed(HEAD + chunk(b"mine") + END + HEAD + chunk(b"other") + END) == b"mine"
    assert (parser.ended, parser.reusable) == (True, False)
