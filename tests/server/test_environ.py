"""The WSGI environment is the one that gunicorn would create."""

import socket

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi

from floway_core.server.environ import connection_environ, request_environ, worker_environ
from floway_core.server.incoming import IncomingRequest
from floway_core.server.request_parser import ConnectionParser

REQUESTS = {
    "an ordinary one": (
        b"POST /v1/responses?a=b%20c HTTP/1.1\r\nhost: gateway:8080\r\nauthorization: Bearer x\r\n"
        b"content-type: application/json\r\ncontent-length: 2\r\nX-Trace-Id: 1\r\n\r\n{}"
    ),
    "repeated headers": b"GET / HTTP/1.1\r\nhost: a\r\naccept: x\r\nvia: 1\r\nAccept: y\r\naccept: z\r\nvia: 2\r\n\r\n",
    "an old one without a host": b"GET /healthz HTTP/1.0\r\n\r\n",
    "an empty host": b"GET / HTTP/1.1\r\nhost:\r\n\r\n",
    "an escaped path": b"GET /a%2fb%C3%A4%zz//c;d HTTP/1.1\r\nhost: [::1]:8080\r\n\r\n",
    "a full URL": b"GET http://elsewhere/x?y#z HTTP/1.1\r\nhost: a\r\n\r\n",
    "a prefixed path": b"GET /prefix/v1 HTTP/1.1\r\nhost: a:1\r\nscript_name: /x\r\n\r\n",
    "every server": b"OPTIONS * HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    "an expectation": b"POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n{}",
    "a proxy's": b"GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: https\r\nx-forwarded-for: 192.0.2.1\r\n\r\n",
}
ENDS = {
    "IPv4": (("192.0.2.1", 50000), ("192.0.2.2", 8080)),
    "IPv6": (("2001:db8::1", 50000, 0, 0), ("2001:db8::2", 8080, 0, 0)),
    "a Unix socket": ("", "/run/floway.sock"),
    "an abstract one": (b"\0client", "/run/floway.sock"),
}
DIFFERENT = {"wsgi.errors", "wsgi.multithread", "wsgi.early_hints"}
"""An object; what the worker changes; what would write to the socket without the worker's knowledge."""


@pytest.fixture
def cfg():
    cfg = Config()
    cfg.set("forwarded_allow_ips", "")
    return cfg


def both(cfg, data, client, server):
    """What gunicorn makes of a request, and what the worker makes of it."""
    ends = socket.socketpair()
    with ends[0] as sock, ends[1]:
        incoming = IncomingRequest(2**16)
        incoming.add(data)
        request = next(ConnectionParser(cfg, sock, client, incoming))
        _, theirs = wsgi.create(request, sock, client, server, cfg)
        ours = request_environ(connection_environ(worker_environ(cfg), sock, client, server), request)
    return theirs, ours


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", REQUESTS)
def test_the_environment_is_that_of_gunicorn(cfg, name, ends):
    theirs, ours = both(cfg, REQUESTS[name], *ENDS[ends])
    assert {key: value for key, value in ours.items() if key not in DIFFERENT} == {
        key: value for key, value in theirs.items() if key not in DIFFERENT
    }
    assert ours["wsgi.multithread"] is True and ours.keys() - theirs.keys() == set()


def test_a_prefix_of_all_paths(cfg, monkeypatch):
    monkeypatch.setenv("SCRIPT_NAME", "/prefix")
    theirs, ours = both(cfg, REQUESTS["a prefixed path"], *ENDS["IPv4"])
    assert ours["SCRIPT_NAME"] == theirs["SCRIPT_NAME"] == "/prefix"
    assert ours["PATH_INFO"] == theirs["PATH_INFO"] == "/v1"
