"""Client and upstream speak the same dialect of a plugin: the answer passes as it is, and counts all the same."""

import json
import re
import time

import pytest

from floway_core.testing import ApiClient, Reply, RunningGateway, Step, message_stream, write_plugin

from ..support.stored_upstreams import add_upstreams

PATIENCE = 60

PLUGIN = '''"""A dialect, and a provider whose upstreams speak it. An event is one line of data with words in it."""

from floway_core.dialect import AnswerReader, Dialect, Operation, ReadRequest, Route
from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext, sse
from floway_core.protocol.failures import Failure
from floway_core.provider import Model, Provider, UpstreamResponse
from floway_core.settings import Setting, origin_url
from floway_core.upstream import HttpClient


class WordsReader(AnswerReader):
    def feed(self, block):
        for event in sse.split(block):
            name, data = sse.parse(event)
            self.read(data)

    def read(self, content):
        word, _, rest = content.decode().strip().partition(" ")
        if word == "say":
            self.has_content = True
        if word == "used":
            self.response["usage"] = {"input_tokens": int(rest), "output_tokens": 1}
        if word == "over":
            self.terminal = "response.completed"
        if word == "broken":
            self.failure, self.terminal = Failure(rest, "words_broken", status=500), "response.failed"
        if word == "{":
            raise ValueError("a brace")
        if word == "whole":
            self.terminal, self.response["usage"] = "response.completed", {"input_tokens": 7, "output_tokens": 2}


class Translator:
    def feed(self, block):
        return b"data: translated\\n\\n" if b"response.completed" in block else b""

    def end(self):
        return b""

    def failure(self, error):
        return f"data: failed {error.code}\\n\\n".encode()


class Words(Dialect):
    name = "words"
    done = b"data: never\\n\\n"

    def routes(self):
        return [Route("/words", Operation.RESPOND)]

    def read(self, request):
        return ReadRequest({"model": request.body["model"], "input": "Hi"}, stream=request.body.get("stream", False))

    def translator(self, client_request):
        return Translator()

    def response(self, client_request, response):
        return {"translated": response["status"]}

    def reader(self, client_request):
        return WordsReader()


class WordsProvider(Provider):
    kind = dialect = "words"

    def __init__(self, services):
        self._client = HttpClient(services.settings)

    def list_models(self, upstream):
        return [Model("word-1", "words"), Model("shared", "words")]

    def send(self, ctx):
        original = ctx.attempt.request.original
        body = original.raw if original else b"none"
        url = ctx.attempt.request.headers["x-test-upstream"]
        response = self._client.stream(ctx, "POST", f"{url}/words", {}, body)
        return UpstreamResponse(response.status, response.headers, response.body, dialect="words")


@hookimpl
def register_dialects(services):
    return [Words()]


@hookimpl
def register_providers(services):
    return [WordsProvider(services)]
'''


@pytest.fixture(scope="module")
def words_gateway(tmp_path_factory, plugin_folder, journal_file):
    folder = tmp_path_factory.mktemp("words")
    write_plugin(folder, "words", PLUGIN)
    environ = {"TEST_JOURNAL": str(journal_file)}
    with RunningGateway({}, plugin_folders=[plugin_folder, folder], environ=environ) as gateway:
        add_upstreams(gateway, first="words", second="wire")
        yield gateway


@pytest.fixture
def client(words_gateway, fake_upstream):
    return ApiClient(words_gateway.url, words_gateway.key, {"x-test-upstream": fake_upstream.url})


@pytest.fixture
def line_of(words_gateway):
    """The log line of a request."""

    def wait(answer):
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(f".* id={answer.headers['x-request-id']} .*", words_gateway.log)):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return found[0]

    return wait


def event(text):
    return f"data:{text}\n\n".encode()


ODD = b": odd\r\n\r\nid: 7\ndata:  say  hello \n\n" + event("say world") + event("used 9")


def test_a_stream_passes_byte_for_byte(client, fake_upstream, line_of):
    fake_upstream.script(Reply([ODD, event("over")]))
    sent = b'{"model": "word-1",  "stream":true, "odd": [1.50]}'
    answer = client.post(sent, "/words")
    assert answer.body == ODD + event("over")
    assert fake_upstream.requests[0].body == sent
    assert " upstream=first attempts=1 dispatches=1 " in line_of(answer)
    assert " outcome=completed error=- tokens=9/0/1/0" in line_of(answer)
    response_id = f"resp_{answer.headers['x-request-id'].replace('-', '')}"
    assert client.get(f"/v1/responses/{response_id}").status == 404


def test_events_pass_as_they_arrive(client, fake_upstream):
    fake_upstream.script(Reply([ODD, Step.HOLD, event("over")]))
    answer = client.post({"model": "word-1", "stream": True}, "/words")
    assert answer.read_until(event("used 9")) == ODD
    fake_upstream.release.set()
    assert answer.body == ODD + event("over")


@pytest.mark.parametrize("last", [event("used 5"), b"data: used 5"], ids=["an event", "without its empty line"])
def test_what_follows_the_end_passes_and_counts(client, fake_upstream, line_of, last):
    fake_upstream.script(Reply([event("say it"), event("over"), last]))
    answer = client.post({"model": "word-1", "stream": True}, "/words")
    assert answer.body == event("say it") + event("over") + last
    assert " tokens=5/0/1/0" in line_of(answer)


def test_an_answer_in_one_piece_passes_too(client, fake_upstream, line_of):
    fake_upstream.script(Reply([b"whole  answer"], headers=[("content-type", "application/json"), ("x-more", "yes")]))
    answer = client.post({"model": "word-1"}, "/words")
    assert (answer.status, answer.body, answer.headers["x-more"]) == (200, b"whole  answer", "yes")
    assert " outcome=completed error=- tokens=7/0/2/0" in line_of(answer)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("failure", [[event("broken No.")], [], [Step.CUT]], ids=["told", "ended", "cut"])
def test_a_failure_before_content_gives_way_to_the_next_candidate(client, fake_upstream, line_of, failure, stream):
    content = failure if stream or not failure or failure[0] is Step.CUT else [b"broken No."]
    content = [b"{ no answer"] if content == [] and not stream else content
    fake_upstream.script(Reply([event("hello"), *content] if stream else content), Reply(message_stream()))
    answer = client.post({"model": "shared", "stream": stream}, "/words")
    assert answer.body == b"data: translated\n\ndata: never\n\n" if stream else answer.json()
    assert " upstream=second attempts=2 " in line_of(answer)
    assert json.loads(fake_upstream.requests[1].body)["model"] == "shared"


@pytest.mark.parametrize("model", ["word-1", "shared"])
def test_a_stream_that_breaks_after_content_fails_in_the_dialect(client, fake_upstream, line_of, model):
    fake_upstream.script(Reply([event("say it"), Step.CUT]))
    answer = client.post({"model": model, "stream": True}, "/words")
    assert answer.body == event("say it") + b"data: failed upstream_disconnected\n\n"
    assert " outcome=failed error=upstream_disconnected " in line_of(answer)


def test_a_failure_that_the_upstream_tells_passes_as_it_is(client, fake_upstream, line_of):
    fake_upstream.script(Reply([event("say it"), event("broken No.")]))
    answer = client.post({"model": "word-1", "stream": True}, "/words")
    assert answer.body == event("say it") + event("broken No.")
    assert " outcome=failed " in line_of(answer)


def test_an_answer_for_a_client_of_another_dialect_is_a_fault(client, fake_upstream, words_gateway):
    fake_upstream.script(Reply([event("over")]))
    answer = client.create(model="word-1", stream=True)
    assert (answer.status, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "An answer in dialect 'words' cannot be passed to a client of dialect 'responses'" in words_gateway.log
