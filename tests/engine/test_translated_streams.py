"""Streams in a dialect of a plugin: translated event by event, with the promises of untranslated ones."""

import http.client
import re
import time

import pytest

from floway_core.testing import ApiClient, Reply, RunningGateway, Step, event, message_stream, write_plugin

from ..support.stored_upstreams import add_upstreams

PATIENCE = 60

DIALECT = '''"""A dialect for tests: plain lines. The text of a delta can make its translator stumble."""

from floway_core.dialect import Dialect, Operation, ReadRequest, Route
from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext, sse


class Lines:
    def __init__(self):
        self.stumbles = False

    def feed(self, block):
        lines = []
        for event in sse.split(block):
            content = jsontext.loads(sse.parse(event)[1] or b"{}")
            kind = content.get("type", "").removeprefix("response.")
            if kind == "output_text.delta":
                if content["delta"].startswith("stumble"):
                    self.stumbles = content["delta"] == "stumble twice"
                    raise RuntimeError("the translator stumbles")
                lines.append("+" + content["delta"])
            elif kind in ("created", "completed", "failed"):
                lines.append(kind)
        return "".join(f"{line}\\n" for line in lines).encode()

    def end(self):
        return b"end\\n"

    def failure(self, error):
        if self.stumbles:
            raise RuntimeError("the translator stumbles again")
        return f"failure {error.status} {error.code}\\n".encode()


class Plain(Dialect):
    name = "plain"
    keepalive = b"still here\\n"
    done = b"done\\n"

    def routes(self):
        return [Route("/plain", Operation.RESPOND, stream=True)]

    def read(self, request):
        return ReadRequest(dict(request.body))

    def translator(self, client_request):
        return Lines()

    def response(self, client_request, response):
        return response


@hookimpl
def register_dialects(services):
    return [Plain()]
'''


@pytest.fixture(scope="module")
def plain_gateway(tmp_path_factory, plugin_folder, journal_file):
    folder = tmp_path_factory.mktemp("plain")
    write_plugin(folder, "plain", DIALECT)
    environ, settings = {"TEST_JOURNAL": str(journal_file)}, {"keepalive_interval": "0.1"}
    with RunningGateway(settings, plugin_folders=[plugin_folder, folder], environ=environ) as gateway:
        add_upstreams(gateway, first="wire")
        yield gateway


@pytest.fixture
def stream(plain_gateway, fake_upstream):
    """Requests a stream of lines."""
    client = ApiClient(plain_gateway.url, plain_gateway.key, {"x-test-upstream": fake_upstream.url})

    def start(**fields):
        return client.post({"model": "model-1", "input": "Hi", **fields}, "/plain")

    return start


def log_line(gateway, answer):
    """The line of a request, which is written when the gateway has let go of everything."""
    deadline = time.monotonic() + PATIENCE
    while not (found := re.search(f".* id={answer.headers['x-request-id']} .*", gateway.log)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found[0]


def lines_of(body):
    return [line for line in body.decode().splitlines() if line != "still here"]


def test_events_are_translated_as_they_arrive(stream, fake_upstream):
    chunks = message_stream("one two", pieces=2)
    delta = next(number for number, chunk in enumerate(chunks) if b"text.delta" in chunk)
    fake_upstream.script(Reply([*chunks[: delta + 1], Step.HOLD, *chunks[delta + 1 :]]))
    answer = stream()
    assert lines_of(answer.read_until(b"+one")) == ["created", "+one"]
    fake_upstream.release.set()
    lines = lines_of(answer.body)
    assert lines[-3:] == ["completed", "end", "done"] and "".join(lines[1:-3]).replace("+", "") == "one two"


def test_the_response_is_stored_before_its_end_is_told(stream, fake_upstream, plain_gateway):
    fake_upstream.script(Reply([*message_stream(), Step.HOLD]))
    answer = stream()
    answer.read_until(b"completed\n")
    client = ApiClient(plain_gateway.url, plain_gateway.key)
    response_id = f"resp_{answer.headers['x-request-id'].replace('-', '')}"
    assert client.get(f"/v1/responses/{response_id}").json()["status"] == "completed"


def test_keepalives_are_those_of_the_dialect(stream, fake_upstream):
    first, *others = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD, *others]))
    answer = stream()
    answer.read_until(b"still here\nstill here\n")
    fake_upstream.release.set()
    assert lines_of(answer.body)[-1] == "done"


def test_keepalives_come_while_the_translator_has_nothing_to_say(stream, fake_upstream):
    """An upstream that talks without an end, of things that this dialect does not know."""
    first, *_ = message_stream()
    fake_upstream.script(Reply([first, *[b": not for you\n\n"] * 1_000_000]))
    answer = stream()
    answer.read_until(b"still here\nstill here\n")
    answer.hang_up()
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)


def test_a_translator_that_raises_ends_the_stream_visibly(stream, fake_upstream, plain_gateway):
    *others, last = message_stream("stumble once", pieces=1)
    fake_upstream.script(Reply([*others, Step.HOLD, last]))
    answer = stream()
    assert lines_of(answer.body)[-1] == "failure 500 translation_failed"  # whether "created" left before it or not
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)
    assert " outcome=failed error=translation_failed " in log_line(plain_gateway, answer)
    assert "The translator of dialect 'plain' failed" in plain_gateway.log
    assert "RuntimeError: the translator stumbles" in plain_gateway.log


def test_a_translator_that_cannot_even_fail_breaks_the_connection(stream, fake_upstream):
    first, *others = message_stream("stumble twice", pieces=1)
    fake_upstream.script(Reply([first, Step.HOLD, *others]))
    answer = stream()
    answer.read_until(b"created\n")
    fake_upstream.release.set()
    with pytest.raises(http.client.IncompleteRead):
        answer.body  # noqa: B018
    fake_upstream.script(Reply(message_stream("next")))
    assert lines_of(stream().body)[-1] == "done"


@pytest.mark.parametrize(
    ("chunks", "failure"),
    [
        ([], "failure 502 upstream_disconnected"),
        ([Step.CUT], "failure 502 upstream_disconnected"),
        ([event("error", code="overloaded", message="Too much.")], "failure 503 overloaded"),
    ],
    ids=["end", "cut", "reason"],
)
def test_a_stream_that_breaks_fails_in_the_dialect(stream, fake_upstream, chunks, failure):
    first, *_ = message_stream()
    fake_upstream.script(Reply([first, *chunks]))
    assert lines_of(stream().body) == ["created", failure]


def test_a_failure_that_the_upstream_tells_is_translated(stream, fake_upstream):
    first, *_ = message_stream()
    failed = event("response.failed", response={"id": "resp_1", "status": "failed", "error": {"message": "No."}})
    fake_upstream.script(Reply([first, failed]))
    assert lines_of(stream().body) == ["created", "failed", "end"]


def test_a_client_that_hangs_up_takes_its_upstream_along(stream, fake_upstream):
    first, *_ = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD]))
    answer = stream()
    assert re.match(rb"created\n", answer.read_until(b"\n"))
    answer.hang_up()
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)
