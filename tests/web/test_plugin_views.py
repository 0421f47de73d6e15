"""Views of plugins that read the body early or partly, close it, exit or raise."""

import re
import socket
from urllib.parse import urlsplit

import pytest

from floway_core.testing import ApiClient, RunningGateway, write_plugin

from ..support.documented_projects import PAGE

PATIENCE = 60
BODY = b'{"model": "model-9", "input": "Hi"}'
VIEWS = """
import sys

from flask import Blueprint, Response, request

from floway_core.hookspecs import hookimpl

views = Blueprint("views", __name__)

@views.post("/length")
def length():
    return str(len(request.get_data()))

@views.post("/close")
def close():
    request.stream.read(1)
    request.stream.close()
    return "closed"

@views.get("/folder/", strict_slashes=True)
def folder():
    return "folder"

@views.get("/")
def page():
    return "a page of its own"

@views.post("/v1/chat/completions")
def chat():
    return "chatted"

@views.get("/waiting")
async def waiting():
    return "waited"

def stumbling():
    raise RuntimeError("before the first byte")
    yield

@views.get("/stumbling")
def stumble():
    return Response(stumbling())

@views.get("/exiting")
def leave():
    sys.exit("out of a view")

@views.get("/numbers")
def numbers():
    return Response(iter([1, 2]), direct_passthrough=True)

@hookimpl
def register_routes():
    return [views]
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A gateway with these views."""
    folder = tmp_path_factory.mktemp("views")
    write_plugin(folder, "views", VIEWS)
    with RunningGateway({"max_body_bytes": "1000"}, plugin_folders=[folder]) as gateway:
        yield gateway


@pytest.fixture
def caller(odd):
    return ApiClient(odd.url, odd.key)


@pytest.fixture
def talk(odd):
    """Sends bytes, and returns everything that comes until the gateway closes the connection."""

    def made(data, shut=True):
        parts = urlsplit(odd.url)
        with socket.create_connection((parts.hostname, parts.port), PATIENCE) as line:
            line.sendall(data)
            if shut:
                line.shutdown(socket.SHUT_WR)
            return line.makefile("rb").read()

    return made


def test_a_view_gets_what_has_come_of_a_body_that_ends_early(talk):
    answer = talk(b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhello")
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n5")


def test_a_view_may_close_the_body(talk):
    head = b"POST /close HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(BODY)
    answer = talk(head + BODY + b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", shut=False)
    first, second = answer.split(b"closed")  # the unread body is not taken for a request
    assert first.startswith(b"HTTP/1.1 200 ") and second.startswith(b"HTTP/1.1 200 ") and second.endswith(b'"ok"}\n')


def test_a_view_that_exits_is_answered(caller):
    assert caller.get("/exiting").json()["error"]["code"] == "internal_error"


def test_the_page_of_the_documentation_is_for_the_holder_of_the_admin_token(start_gateway, tmp_path):
    (source,) = re.findall(r"^```python\n(from flask import.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    hook = "@hookimpl\ndef register_routes():\n    return [blueprint]\n"
    write_plugin(tmp_path, "perches", f"{source}\nfrom floway_core.hookspecs import hookimpl\n\n{hook}")
    gateway = start_gateway({"admin_token": "a-token-of-the-admin"}, plugin_folders=[tmp_path], installed=["echo"])
    assert gateway.run("echo", "add").returncode == 0
    assert ApiClient(gateway.url, gateway.key).get("/perches").json()["error"]["code"] == "invalid_admin_token"
    assert ApiClient(gateway.url, "a-token-of-the-admin").get("/perches").json() == {
        "keys": ["test"],
        "upstreams": {"echo": "ready"},
    }


@pytest.mark.parametrize("path", ["/stumbling", "/numbers"])
def test_a_view_that_stumbles_before_the_first_byte_is_answered(talk, path):
    answer = talk(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 500 ") and answer.count(b"HTTP/1.1 ") == 1
    answer = talk(f"HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n") and answer.count(b"HTTP/1.1 ") == 1


def test_routes_of_a_plugin_come_before_what_core_says_of_their_paths(caller):
    assert caller.get("/").body == b"a page of its own"
    assert caller.send("POST", "/v1/chat/completions", BODY).body == b"chatted"
    assert caller.get("/v1/chat/completions").status == 405
    assert caller.send("POST", "/v1/embeddings", BODY).json()["error"]["code"] == "unsupported_endpoint"


HOSTS = [
    (b"", None),
    (b"host: Gateway\r\n", rb"http://gateway/"),
    (b"host: gateway:80\r\n", rb"http://gateway/"),
    (b"host: gateway:8080\r\n", rb"http://gateway:8080/"),
    (b"host: \xff[]{}\r\n", rb"http:///"),
    (b"host: a..b\r\n", None),
]


@pytest.mark.parametrize(("host", "place"), HOSTS)
def test_a_redirect_leads_to_the_host_of_the_request(talk, host, place):
    """Only a plugin's own rule redirects. The second time, too, when the host is known."""
    for _ in range(2):
        answer = talk(b"GET /folder?x=\xc3\xbc HTTP/1.1\r\n" + host + b"\r\n")
        if place:
            assert answer.startswith(b"HTTP/1.1 308 ") and re.search(
                rb"Location: %sfolder/\?x=%%C3%%BC\r" % place, answer
            )
        else:
            assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_view_that_is_a_coroutine_is_told_what_it_lacks(caller, odd):
    assert caller.get("/waiting").status == 500
    assert "Flask with the 'async' extra" in odd.log
