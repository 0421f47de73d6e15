"""Additional slashes: ignored at either end of a path, not found within it, and never redirected."""

import json
import socket
from urllib.parse import urlsplit

import pytest

from floway_core.testing import Reply, message_stream

PATIENCE = 60
GOOD = json.dumps({"model": "model-1", "input": "Hi"}).encode()


@pytest.fixture
def stored(ask, fake_upstream):
    """The id of a stored response."""
    fake_upstream.script(Reply(message_stream()))
    return ask.create().json()["id"]


@pytest.mark.parametrize("path", ["/v1/responses/", "/responses/", "/v1/responses/?a=b"])
@pytest.mark.parametrize("stream", [True, False])
def test_creating_with_a_slash_at_the_end(ask, fake_upstream, path, stream):
    fake_upstream.script(Reply(message_stream()))
    answer = ask.post({"model": "model-1", "input": "Hi", "stream": stream}, path)
    assert answer.status == 200 and answer.body
    assert answer.headers["location"] is None


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_every_other_path_with_a_slash_at_the_end(ask, stored, prefix):
    one = f"{prefix}/responses/{stored}"
    for path in (
        f"{prefix}/models",
        f"{prefix}/models/model-1",
        f"{prefix}/models/org/model-3",
        one,
        f"{one}/input_items",
    ):
        plain, slash = ask.get(path), ask.get(f"{path}/")
        assert (slash.status, slash.json()) == (200, plain.json()), path
    for method, path in (
        ("POST", f"{one}/cancel"),
        ("POST", f"{prefix}/responses/compact"),
        ("GET", f"{prefix}/responses"),
    ):
        plain, slash = ask.send(method, path), ask.send(method, f"{path}/")
        assert (slash.status, slash.json()) == (plain.status, plain.json()), path
    assert ask.send("DELETE", f"{one}/").json() == {"id": stored, "object": "response", "deleted": True}
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert ask.get(f"{path}/").status == 200


TARGETS = [
    "//v1/responses",
    "/v1//responses",
    "//responses",
    "///v1///responses//",
    "/v1/responses//",
    "//v1/responses/",
    "//elsewhere.example/v1/responses",
    "//elsewhere.example//v1//responses",
    "/%2fv1/responses",
    "/v1/%2Fresponses",
    "/\\v1/responses",
    "//v1/models",
    "/v1//models",
    "/v1/models//",
    "/v1/models//model-1",
    "//healthz",
    "//admin/api/keys",
    "/v1//responses/resp_1",
    "/v1/responses//input_items",
    "/v1/responses/resp_1//input_items",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_nobody_is_redirected(gateway, target, method):
    """Behind a proxy that speaks TLS a redirect would lead to http, and the client's key would follow in plain."""
    host = urlsplit(gateway.url)
    with socket.create_connection((host.hostname, host.port), PATIENCE) as line:
        lines = [f"{method} {target} HTTP/1.1", "host: gateway.example", f"authorization: Bearer {gateway.key}"]
        lines += ["x-forwarded-proto: https", f"content-length: {len(GOOD)}", "connection: close", "", ""]
        line.sendall("\r\n".join(lines).encode() + GOOD)
        received = b""
        while piece := line.recv(2**16):
            received += piece
    head = received.partition(b"\r\n\r\n")[0].lower()
    assert not head.split()[1].startswith(b"3"), head
    assert b"\r\nlocation:" not in head and b"\r\nrefresh:" not in head


def test_the_reason_is_said(ask, refused):
    message = refused(ask.send("POST", "/v1//responses", GOOD), 404, "not_found")
    assert message == "POST /v1//responses does not exist. It has a double slash."
    for path in ("/v1/v1/messages", "/v1/v1beta/models/m:generateContent"):
        message = refused(ask.send("POST", path, GOOD), 404, "not_found")
        assert message.endswith("does not exist. It has the version twice: leave one out of the client's base URL.")
