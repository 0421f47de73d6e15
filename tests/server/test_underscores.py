"""Headers with an underscore in their name: those that a provider reads reach it, and none is taken for another."""

import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from floway_core.testing import Installation, Reply, message_stream, write_plugin

PATIENCE = 60
BODY = json.dumps({"model": "model-1", "input": "Hi"}).encode()
READS = '''"""A provider that reads headers which it must not."""

from floway_core.hookspecs import hookimpl
from floway_core.provider import Provider


class Curious(Provider):
    kind = "curious"
    underscore_headers = {names!r}
    list_models = send = None


Curious.__abstractmethods__ = frozenset()


@hookimpl
def register_providers(services):
    return [Curious()]
'''


def sent(place, *lines, body=BODY, host="gateway"):
    """What comes back to a request with exactly these lines in its head: the status, and the parsed body."""
    family, address = place
    with socket.socket(family) as client:
        client.settimeout(PATIENCE)
        client.connect(address)
        head = ["POST /v1/responses HTTP/1.1", f"host: {host}", "connection: close", *lines, "", ""]
        client.sendall("\r\n".join(head).encode("latin-1") + body)
        answer = http.client.HTTPResponse(client, method="POST")
        answer.begin()
        return answer.status, json.loads(answer.read() or "null")


@pytest.fixture
def place(gateway):
    parts = urlsplit(gateway.url)
    return socket.AF_INET, (parts.hostname, parts.port)


@pytest.fixture
def usual(gateway, fake_upstream):
    """The lines of a request that is answered."""
    fake_upstream.script(*[Reply(message_stream("Hello"))] * 2)
    length = f"content-length: {len(BODY)}"
    return [f"authorization: Bearer {gateway.key}", f"x-test-upstream: {fake_upstream.url}", length]


def arrived(fake_upstream, *names):
    """The headers of these names that the provider has passed on, in order."""
    (request,) = fake_upstream.requests
    return [(name, value) for name, value in request.headers if name in names]


@pytest.mark.parametrize("lines, expected", [
    (["x_test_trace: a"], [("x_test_trace", "a")]),
    (["X_Test_TRACE:  a b "], [("x_test_trace", "a b")]),
    (["x-test-trace: hyphen", "x_test_trace: other"], [("x-test-trace", "hyphen"), ("x_test_trace", "other")]),
    (["x_test_trace: other", "x-test-trace: hyphen"], [("x-test-trace", "hyphen"), ("x_test_trace", "other")]),
    (["x-test-trace: hyphen"], [("x-test-trace", "hyphen")]),
    (["x_test_trace: a", "x_test_trace: b"], [("x_test_trace", "a,b")]),
    (["x_test-trace: mixed", "x-test_trace: mixed"], []),
    (["x_test_other: a", "x_test_trace_: b", "_x_test_trace: c"], []),
])  # fmt: skip
def test_only_what_is_read_reaches_the_provider_and_under_its_own_name(place, usual, fake_upstream, lines, expected):
    """Those with a hyphen stay what they are, whatever comes before or after them."""
    status, answer = sent(place, *usual, *lines)
    assert (status, answer["status"]) == (200, "completed")
    names = {name for name, _ in fake_upstream.requests[0].headers if "trace" in name or name.startswith("x_")}
    assert sorted(arrived(fake_upstream, *names)) == sorted(expected)


@pytest.mark.parametrize("line", [
    "x_api_key: nonsense", "authorization_: Bearer nonsense", "_authorization: Bearer nonsense", "content_length: 3",
    "transfer_encoding: chunked", "content_encoding: gzip", "content_type: text/plain", "x_forwarded_for: 10.0.0.1",
    "x_forwarded_proto: https", "script_name: /elsewhere", "path_info: /elsewhere", "x_test_upstream: http://127.0.0.1:1",
    "upgrade_: websocket", "expect_: 100-continue", "host_: elsewhere", "http_x_test_upstream: http://127.0.0.1:1",
    "x_test_raise: on_attempt_start fault",
])  # fmt: skip
@pytest.mark.parametrize("first", [True, False])
def test_none_is_taken_for_its_namesake(place, usual, fake_upstream, line, first):
    """The request is answered as if the line was not there; only a name that a provider reads reaches that."""
    lines = [line, *usual] if first else [*usual, line]
    status, answer = sent(place, *lines)
    assert (status, answer["status"]) == (200, "completed")
    (request,) = fake_upstream.requests
    assert json.loads(request.body)["input"][0]["content"][0]["text"] == "Hi"
    others = [(name, value) for name, value in request.headers if "_" in name or "forwarded" in name]
    assert others == ([("content_length", "3")] if line == "content_length: 3" else [])


@pytest.mark.parametrize("line", ["x_api_key: {}", "authorization_: Bearer {}", "_authorization: Bearer {}"])
def test_none_is_a_credential(place, gateway, fake_upstream, line):
    status, answer = sent(place, line.format(gateway.key), f"content-length: {len(BODY)}")
    assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
    assert fake_upstream.requests == []


@pytest.mark.parametrize("line", ["content_length: 3", "transfer_encoding: chunked"])
def test_none_frames_a_body(place, gateway, fake_upstream, line):
    """The body that is not announced is not read."""
    status, answer = sent(place, f"authorization: Bearer {gateway.key}", line, body=b"")
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert fake_upstream.requests == []


def test_none_comes_from_a_trailer(place, usual, fake_upstream):
    chunks = b"%x\r\n%s\r\n0\r\nx_test_trace: trailing\r\n\r\n" % (len(BODY), BODY)
    status, _ = sent(place, *usual[:-1], "transfer-encoding: chunked", body=chunks)
    assert status == 200 and arrived(fake_upstream, "x_test_trace", "x-test-trace") == []


def test_no_request_gets_those_of_the_one_before(place, usual, gateway, fake_upstream):
    """On one connection."""
    heads = [["x_test_trace: first"], ["connection: close"]]
    with socket.create_connection(place[1], PATIENCE) as client:
        for more in heads:
            head = ["POST /v1/responses HTTP/1.1", "host: gateway", *usual, *more, "", ""]
            client.sendall("\r\n".join(head).encode() + BODY)
            answer = http.client.HTTPResponse(client, method="POST")
            answer.begin()
            assert json.loads(answer.read())["status"] == "completed"
    first, second = [[value for name, value in one.headers if name == "x_test_trace"] for one in fake_upstream.requests]
    assert (first, second) == (["first"], [])


# ------------------------------------------------------------------------------------------------------- other servers
PAGE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text(encoding="utf-8")
OPTIONS = re.search(r"^```python gunicorn.conf.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]
APP = "floway_core.wsgi:app"


def wait_for(path, server):
    """Until somebody listens at ``path``; the file is there a little before."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert server.poll() is None and time.monotonic() < deadline
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            return
        time.sleep(0.01)


@pytest.mark.parametrize("command, reads", [
    (["floway_core", "serve", "--bind"], True),
    (["gunicorn", "-c", "floway.conf.py", APP, "--bind"], True),
    (["gunicorn", APP, "--no-control-socket", "--bind"], False),
], ids=["serve", "gunicorn with the options", "gunicorn alone"])  # fmt: skip
def test_nor_behind_a_unix_socket_and_under_gunicorns_command(
    plugin_folder, journal_file, fake_upstream, command, reads
):
    """Who comes through a Unix socket is some proxy's client, and no more to be trusted than others."""
    fake_upstream.script(Reply(message_stream("Hello")))
    environ = {"TEST_JOURNAL": str(journal_file)}
    with Installation({"workers": "1"}, plugin_folders=[plugin_folder], environ=environ) as installation:
        assert installation.run("add-wire", "first").returncode == 0
        key = installation.run("keys", "create", "test").stdout.strip()
        (installation.folder / "floway.conf.py").write_text(OPTIONS)
        path = installation.folder / "socket"
        arguments = [sys.executable, "-m", *command, f"unix:{path}"]
        with subprocess.Popen(arguments, env=installation.environ, cwd=installation.folder) as server:
            try:
                wait_for(path, server)
                length = f"content-length: {len(BODY)}"
                lines = [f"authorization: Bearer {key}", f"x-test-upstream: {fake_upstream.url}", length]
                smuggled = ["x_test_upstream: http://127.0.0.1:1", "x_api_key: nonsense", "x_forwarded_proto: https"]
                smuggled += ["script_name: /elsewhere"] if reads else []
                place = socket.AF_UNIX, str(path)
                status, answer = sent(place, *lines, "x_test_trace: a", "x-test-trace: b", *smuggled)
            finally:
                server.terminate()
    assert (status, answer["status"]) == (200, "completed")
    expected = [("x-test-trace", "b"), *([("x_test_trace", "a")] if reads else [])]
    assert sorted(arrived(fake_upstream, "x_test_trace", "x-test-trace")) == expected


# ---------------------------------------------------------------------------------------------------------- declaring
@pytest.mark.parametrize("names", [
    "trace_id", ["trace-id"], ["Trace_Id"], ["trace_id\r\n"], ["x_api_key"], ["proxy_authorization"],
    ["authorization_"], ["_cookie"], ["api_key"], [""], [7],
])  # fmt: skip
def test_a_plugin_cannot_read_credentials_or_what_is_no_such_name(tmp_path, names):
    write_plugin(tmp_path, "curious", READS.format(names=names))
    with Installation(plugin_folders=[tmp_path]) as installation:
        done = installation.run("upstreams", "add", "curious", "it")
    assert done.returncode == 1 and "underscore_headers" in done.stderr and "'curious'" in done.stderr
    assert "Traceback" not in done.stderr
