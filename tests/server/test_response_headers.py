"""The head of a response: headers are checked and sent as by gunicorn."""

import itertools
from types import SimpleNamespace

import pytest
from gunicorn.config import Config
from gunicorn.http.wsgi import Response

from floway_core.server.response_writer import ResponseWriter
from floway_core.server.send_buffer import SendBuffer

NAMES = [
    *("content-type", "X-Request-ID", "content-length", "Content-Length", "Connection", "keep-alive", "Upgrade"),
    *("Transfer-Encoding", "server", "Date", "TE", "x_y", "x!", "x-1", "", " ", "x y", "x:", "x\n", "ü", b"x", 1, None),
]
VALUES = [
    *("text/plain", "", " padded\t", "  ", "5", "upgrade", "websocket", "close", "ü", "a\x7f", "a\x80", "\u0100"),
    *("a\tb", "a\nb", "a\r\nx: y", "a\x00", b"a", 5, None),
]


class OwnText(str):
    """Other text than that of a library, as some have for their headers."""


def taken(response_class, headers, method="GET", status="200 OK"):
    """Return what a response takes from ``headers``, or the type of the error."""
    request = SimpleNamespace(method=method, version=(1, 1), should_close=lambda: False)
    arguments = (SendBuffer(),) if response_class is ResponseWriter else ()
    response = response_class(request, None, Config(), *arguments)
    try:
        response.start_response(status, headers)
    except Exception as error:  # noqa: BLE001 - whatever gunicorn raises
        return type(error)
    return response.headers, response.response_length, response.upgrade, response.chunked


@pytest.mark.parametrize("name", [*NAMES, OwnText("content-type"), OwnText("content-length")])
def test_each_header_is_taken_as_by_gunicorn(name):
    for value in (*VALUES, OwnText("5")):
        for _ in range(2):  # what is remembered of the first one changes nothing
            assert taken(ResponseWriter, [(name, value)]) == taken(Response, [(name, value)])


def test_headers_are_taken_in_their_order():
    names, values = NAMES[:13], [value for value in VALUES[:8] if value]
    for first, second in itertools.product(names, repeat=2):
        headers = [(first, values[0]), (second, "5"), ("x-last", values[2]), (first, "7")]
        for status, method in (("200 OK", "GET"), ("204 No Content", "GET"), ("200 OK", "HEAD")):
            assert taken(ResponseWriter, headers, method, status) == taken(Response, headers, method, status)
