"""A generated answer behaves like a relayed one: keep-alives, timeouts, disconnects, a visible end."""

import json
import os
import threading

import pytest

from floway_core.errors import ClientDisconnected, Overloaded
from floway_core.provider import IterableBody
from floway_core.testing import ApiClient, write_plugin
from floway_core.testing.client import TIMEOUT_SECONDS
from floway_core.upstream import GeneratedBody
from floway_core.upstream.generated import MAX_BUFFERED_BYTES

PLUGIN = '''"""A provider that generates its answer, and waits for the test in between."""

import os
import threading

from floway_core.hookspecs import hookimpl
from floway_core.protocol.response_writer import ResponseEventWriter
from floway_core.provider import Model, Provider, UpstreamResponse
from floway_core.upstream import GeneratedBody


class Scribe(Provider):
    kind = "scribe"

    def list_models(self, upstream):
        return [Model("scribe-1", "me")]

    def send(self, ctx):
        is_closed = threading.Event()
        headers = ctx.attempt.request.headers
        events = answer(headers["x-test-folder"], headers["x-test-way"], is_closed)
        return UpstreamResponse(200, [("content-type", "text/event-stream")], GeneratedBody(events, is_closed.set))


def answer(folder, way, is_closed):
    writer = ResponseEventWriter("scribe-1")
    try:
        yield writer.text("One ")
        if way == "wait":
            with open(f"{folder}/go") as fifo:
                fifo.read()
        if way == "wait for the end":
            is_closed.wait(20)
        if way == "raise":
            raise ValueError("sk-secret")
        if way == "exit":
            raise SystemExit(3)
        if way == "stop":
            return
        yield writer.text("two.")
        yield writer.complete({"input_tokens": 1, "output_tokens": 2, "total_tokens": 3})
    finally:
        with open(f"{folder}/closed", "w") as fifo:
            fifo.write(threading.current_thread().name)


@hookimpl
def register_providers(services):
    return [Scribe()]
'''


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "signals"
    folder.mkdir()
    for name in ("go", "closed"):  # opening a FIFO waits until the other side opens it, too
        os.mkfifo(folder / name)
    return folder


@pytest.fixture
def gateway(start_gateway, tmp_path):
    def start(**settings):
        write_plugin(tmp_path / "plugins", "scribe", PLUGIN)
        gateway = start_gateway(settings, plugin_folders=[tmp_path / "plugins"])
        assert gateway.run("upstreams", "add", "scribe", "one").returncode == 0
        return gateway

    return start


def ask(gateway, folder, way, stream=True):
    client = ApiClient(gateway.url, gateway.key, {"x-test-folder": str(folder), "x-test-way": way})
    return client.create("Hello", model="scribe-1", stream=stream)


def wait_until_closed(folder):
    """Wait until the generator has run its ``finally``; return the name of the thread that ran it."""
    names = []
    waiting = threading.Thread(target=lambda: names.append((folder / "closed").read_text()), daemon=True)
    waiting.start()
    waiting.join(TIMEOUT_SECONDS)
    assert names, "the generator was not closed"
    return names[0]


@pytest.mark.parametrize("stream", [False, True])
def test_a_whole_answer(gateway, folder, stream):
    exchange = ask(gateway(), folder, "", stream)
    wait_until_closed(folder)
    response = exchange.events()[-1]["response"] if stream else exchange.json()
    assert (response["status"], response["usage"]["total_tokens"]) == ("completed", 3)
    assert response["output"][0]["content"][0]["text"] == "One two."


def test_a_client_gets_keepalives_while_the_generator_waits(gateway, folder):
    exchange = ask(gateway(keepalive_interval="0.2"), folder, "wait")
    exchange.read_until(b": keepalive\n\n: keepalive\n\n")
    assert b'"delta":"One "' in exchange.received
    (folder / "go").write_text("go")
    wait_until_closed(folder)
    assert exchange.events()[-1]["type"] == "response.completed"


def test_a_hang_up_closes_the_generator(gateway, folder):
    exchange = ask(gateway(), folder, "wait for the end")
    exchange.read_until(b"One ")
    exchange.hang_up()
    assert wait_until_closed(folder) == "generated body"


@pytest.mark.parametrize("stream", [False, True])
def test_a_generator_that_is_silent_too_long_fails_visibly(gateway, folder, stream):
    exchange = ask(gateway(idle_timeout="0.3"), folder, "wait for the end", stream)
    wait_until_closed(folder)
    if not stream:
        assert (exchange.status, exchange.json()["error"]["code"]) == (504, "upstream_timeout")
    else:
        assert exchange.events()[-1]["response"]["error"]["code"] == "upstream_timeout"


@pytest.mark.parametrize("way", ["raise", "exit", "stop"])
def test_a_generator_that_fails_ends_the_stream_visibly(gateway, folder, way):
    gateway = gateway()
    exchange = ask(gateway, folder, way)
    wait_until_closed(folder)
    *_, last = exchange.events()
    assert last["type"] == "response.failed" and b"sk-secret" not in exchange.body
    assert b'"delta":"One "' in exchange.body, "what came before the failure has to arrive"
    assert ("ValueError: sk-secret" in gateway.log) == (way == "raise")


# ---------------------------------------------------------------------------------------------- the body by itself
class Gone:
    """A client that has hung up."""

    def __init__(self):
        self._readable, writable = os.pipe()
        os.close(writable)

    def fileno(self):
        return self._readable

    def is_closed(self):
        return True

    def shutdown_fileno(self):
        return None


def read_all(body):
    content = b""
    while piece := body.read(TIMEOUT_SECONDS):
        content += piece
    assert piece == b""
    return content


def test_reading_never_blocks_with_a_timeout_of_0_and_a_client_that_has_gone_ends_it():
    go_on = threading.Event()

    def chunks():
        go_on.wait(TIMEOUT_SECONDS)
        yield b"one"

    body = GeneratedBody(chunks())
    assert body.read(0) is None and body.read(0.01) is None
    with pytest.raises(ClientDisconnected):
        body.read(TIMEOUT_SECONDS, Gone())
    go_on.set()
    assert read_all(body) == b"one" and body.read(0) == b""
    body.close()
    body.close()


def test_a_client_that_reads_slowly_slows_the_generator_down():
    count, started = 0, threading.Semaphore(0)

    def chunks():
        nonlocal count
        for _ in range(5):
            count += 1
            started.release()
            yield bytes(MAX_BUFFERED_BYTES)

    body = GeneratedBody(chunks())
    assert body.read(0) in (None, bytes(MAX_BUFFERED_BYTES))
    assert started.acquire(timeout=TIMEOUT_SECONDS)
    assert count <= 2
    assert len(read_all(body)) >= 4 * MAX_BUFFERED_BYTES and count == 5
    body.close()


def test_a_body_that_is_never_read_closes_its_generator():
    closed = []

    def chunks():
        try:
            yield b"one"
        finally:
            closed.append(True)

    generator = chunks()
    body = GeneratedBody(generator, lambda: closed.append("on_close"))
    body.close()
    body.close()
    assert closed == ["on_close"] and generator.gi_frame is None


def test_without_a_thread_to_be_had_the_request_is_refused(monkeypatch):
    body = GeneratedBody(iter([b"one"]))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail_to_start)
        with pytest.raises(Overloaded):
            body.read(TIMEOUT_SECONDS)
    assert read_all(body) == b"one"
    body.close()


def fail_to_start(thread):
    raise RuntimeError("can't start new thread")


def test_a_list_is_read_at_once_and_a_generator_is_refused():
    body = IterableBody([b"one", b"two"])
    assert (body.read(0), body.read(0)) == (b"onetwo", b"")
    with pytest.raises(TypeError, match="GeneratedBody"):
        IterableBody(json.dumps(one).encode() for one in (1, 2))
