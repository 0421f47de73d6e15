"""Observers: what they receive about attempts and requests, and that they cannot affect these."""

import json
import re
import time

import pytest

from floway_core.runtime.lifecycle import SLOW_SECONDS
from floway_core.runtime.observers import OBSERVER_FLUSH_SECONDS
from floway_core.testing import ApiClient, Reply, RunningGateway, Step, message_stream, write_plugin

from ..support.stored_upstreams import add_upstreams

PATIENCE = 60

NOTES = '''"""An observer that notes results. The model of a request can make it stumble; a header, its other hooks."""

import dataclasses
import json
import os
import sys
import time

from floway_core.hookspecs import hookimpl


def note(hook, **values):
    with open(os.environ["TEST_NOTES"], "a") as out:
        out.write(json.dumps({"hook": hook, **values}) + "\\n")


def wait_for_file(name):
    while not os.path.exists(os.path.join(os.path.dirname(os.environ["TEST_NOTES"]), name)):
        time.sleep(0.01)


@hookimpl
def on_start(services):
    note("on_start", pid=os.getpid(), database=type(services.database).__name__)


@hookimpl
def on_attempt_end(ctx, result):
    note("on_attempt_end", ctx=dataclasses.asdict(ctx), result=dataclasses.asdict(result))
    for item in result.output:
        item.clear()


@hookimpl
def on_request_end(result):
    if result.model == "raise":
        raise RuntimeError("the observer stumbles")
    if result.model == "exit":
        sys.exit("the observer leaves")
    if result.model == "hang":
        wait_for_file("go-on")
    if result.model == "slow":
        time.sleep(0.3)
    note("on_request_end", result=dataclasses.asdict(result))


@hookimpl
def on_stop(timeout):
    note("on_stop", timeout=timeout)


@hookimpl
def on_attempt_start(ctx):
    if given := ctx.request.headers.get("x-test-trace"):
        ctx.trace_headers.update(json.loads(given))
    if "x-test-meddle" in ctx.request.headers:
        ctx.request.body["input"].clear()
        ctx.request.body["model"] = "another"
        ctx.ignored.append("everything")
        ctx.model = "another"


@hookimpl
def prepare_responses_request(ctx):
    if "x-test-meddle" in ctx.attempt.request.headers:
        ctx.body["input"][0]["content"] = "Changed"
        ctx.headers["x-meddled"] = "yes"
        ctx.ignore("temperature")
        ctx.body = {}


@hookimpl
def on_snapshot_commit(ctx):
    if "x-test-commit" in ctx.attempt.request.headers:
        note("on_snapshot_commit", response=ctx.response_id)
        time.sleep(float(ctx.attempt.request.headers["x-test-commit"].removeprefix("wait ")))
        wait_for_file("commit")
    if "x-test-exit" in ctx.attempt.request.headers:
        sys.exit("the observer leaves")
    ctx.metadata["seen"] = ctx.metadata.get("seen", 0) + 1
'''

OTHER = '''"""A second observer, which does nothing but count."""

import os

from floway_core.hookspecs import hookimpl


@hookimpl
def on_request_end(result):
    with open(os.environ["TEST_NOTES"] + ".other", "a") as out:
        out.write(f"{result.id}\\n")
'''


class House:
    """A gateway with these observers."""

    def __init__(self, folder, plugin_folder, journal_file, **settings):
        write_plugin(folder, "notes", NOTES)
        write_plugin(folder, "other", OTHER)
        self.folder = folder / "results"
        self.folder.mkdir()
        self.file = self.folder / "notes.jsonl"
        environ = {"TEST_JOURNAL": str(journal_file), "TEST_NOTES": str(self.file)}
        self.gateway = RunningGateway(settings, plugin_folders=[plugin_folder, folder], environ=environ)
        add_upstreams(self.gateway, first="wire", second="wire")

    def notes(self, hook):
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [line for line in map(json.loads, lines) if line["hook"] == hook]

    def results(self, answer):
        """The results of the attempts of a request, and that of the request."""
        request_id = answer.headers["x-request-id"]
        wait_until(lambda: any(line["result"]["id"] == request_id for line in self.notes("on_request_end")))
        attempts = [line for line in self.notes("on_attempt_end") if line["ctx"]["request_id"] == request_id]
        (request,) = [line for line in self.notes("on_request_end") if line["result"]["id"] == request_id]
        return attempts, request["result"]


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def house(tmp_path_factory, plugin_folder, journal_file):
    house = House(tmp_path_factory.mktemp("observers"), plugin_folder, journal_file)
    with house.gateway:
        yield house


@pytest.fixture
def client(house, fake_upstream):
    return ApiClient(house.gateway.url, house.gateway.key, {"x-test-upstream": fake_upstream.url})


def test_an_observer_gets_the_services_once_in_each_worker(house):
    (note,) = house.notes("on_start")
    assert "Sqlite" in note["database"] and note["pid"] != house.gateway.process.pid


@pytest.mark.parametrize("stream", [True, False])
def test_what_an_observer_learns(house, client, fake_upstream, stream):
    fake_upstream.script(Reply([b"{}"], 401), Reply(message_stream()))
    began = time.time()
    answer = client.create(stream=stream)
    assert answer.status == 200 and answer.body
    (attempt,), request = house.results(answer)
    request_id = answer.headers["x-request-id"]
    assert attempt["ctx"]["upstream"]["name"] == "first"
    assert {name: attempt["ctx"][name] for name in ("id", "key", "dialect", "model", "upstream_model")} == {
        "id": f"{request_id}.1",
        "key": "test",
        "dialect": "responses",
        "model": "model-1",
        "upstream_model": "model-1",
    }
    result = attempt["result"]
    server = f"http://{fake_upstream.url.partition('//')[2].partition('/')[0]}"
    assert attempt["ctx"]["server"] == server
    assert (result["response_id"], result["response_model"]) == (answer_id(answer, stream), "model-1")
    assert (result["output_types"], result["incomplete_reason"]) == (["message"], None)
    assert [item["type"] for item in result["output"]] == ["message"]
    first, second = result["dispatch_seconds"]
    assert 0 < first < second < result["commit_seconds"] < result["seconds"]
    assert began <= request["started_at"] <= result["started_at"] <= time.time()
    assert result["started_at"] + result["seconds"] <= request["started_at"] + request["seconds"] + 0.001
    assert (request["conversation"], request["trace_headers"]) == (None, {})
    tokens = request["tokens"]
    assert tokens[0] > 0 and tokens[2] > 0
    assert (result["outcome"], result["status"], result["error"], result["tokens"], result["dispatches"]) == (
        "completed",
        200,
        None,
        tokens,
        2,
    )
    assert {name: request[name] for name in ("method", "route", "key", "model", "upstream", "streamed", "status")} == {
        "method": "POST",
        "route": "/v1/responses",
        "key": "test",
        "model": "model-1",
        "upstream": "first",
        "streamed": stream,
        "status": 200,
    }
    assert (request["outcome"], request["error"], request["attempts"], request["dispatches"]) == (
        "completed",
        None,
        1,
        2,
    )
    assert 0 < result["seconds"] <= request["seconds"]
    if stream:
        assert 0 < result["first_byte_seconds"] <= request["first_byte_seconds"] <= request["seconds"]
    else:
        assert result["first_byte_seconds"] is request["first_byte_seconds"] is None


def answer_id(answer, stream):
    return answer.events()[-1]["response"]["id"] if stream else answer.json()["id"]


def test_an_observer_learns_the_trace_and_continues_it(house, client, fake_upstream):
    fake_upstream.script(Reply([b"{}"], 401), Reply(message_stream()))
    headers = {"traceparent": "00-1-2-01", "tracestate": "a=b", "baggage": "c=d", "x-b3": "no"}
    given = {"traceparent": "00-1-3-01", "tracestate": "bad\nvalue", "baggage": 5, "x-meddled": "yes"}
    client.headers |= {**headers, "x-test-trace": json.dumps(given)}
    answer = client.create()
    assert answer.status == 200
    _, request = house.results(answer)
    assert request["trace_headers"] == {name: headers[name] for name in ("traceparent", "tracestate", "baggage")}
    for sent in fake_upstream.requests:
        assert sent.header("traceparent") == "00-1-3-01"
        assert sent.header("tracestate") is sent.header("baggage") is sent.header("x-meddled") is None


def test_nobody_continues_a_trace_unasked(house, client, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    client.headers["traceparent"] = "00-1-2-01"
    assert client.create().status == 200
    assert fake_upstream.requests[0].header("traceparent") is None


def test_why_a_response_is_incomplete(house, client, fake_upstream):
    *events, _ = message_stream()
    response = {"id": "x", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}
    end = {"type": "response.incomplete", "response": response}
    fake_upstream.script(Reply([*events, b"event: response.incomplete\ndata: %s\n\n" % json.dumps(end).encode()]))
    (attempt,), _ = house.results(client.create())
    result = attempt["result"]
    assert (result["outcome"], result["incomplete_reason"]) == ("incomplete", "max_output_tokens")


def test_every_attempt_has_a_result(house, client, fake_upstream):
    fake_upstream.script(Reply([b'{"error":{"message":"No.","code":"busy"}}'], 503), Reply(message_stream()))
    attempts, request = house.results(client.create())
    assert [(line["ctx"]["upstream"]["name"], line["result"]["outcome"]) for line in attempts] == [
        ("first", "failed"),
        ("second", "completed"),
    ]
    assert [(line["result"]["status"], line["result"]["error"]) for line in attempts] == [(503, "busy"), (200, None)]
    assert (request["attempts"], request["dispatches"], request["upstream"]) == (2, 2, "second")


def test_a_stream_that_breaks_has_failed(house, client, fake_upstream):
    fake_upstream.script(Reply([*message_stream()[:6], Step.CUT]))
    answer = client.stream()
    assert answer.body
    (attempt,), request = house.results(answer)
    assert (request["status"], request["outcome"], request["error"]) == (200, "failed", "upstream_disconnected")
    assert (attempt["result"]["outcome"], attempt["result"]["error"]) == ("failed", "upstream_disconnected")


def test_what_an_observer_does_to_the_items_of_a_response_changes_nothing(house, client, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    answer = client.create()
    house.results(answer)
    stored = client.get(f"/v1/responses/{answer.json()['id']}").json()
    assert stored["output"] == answer.json()["output"] and stored["output"][0]["content"]


def test_a_client_that_hangs_up_has_cut_it(house, client, fake_upstream):
    *most, last = message_stream()
    fake_upstream.script(Reply([*most, Step.HOLD, last]))
    answer = client.stream()
    answer.read_until(b"\n\n")
    answer.hang_up()
    (attempt,), request = house.results(answer)
    assert request["outcome"] == attempt["result"]["outcome"] == "cut"


def test_requests_without_an_attempt_have_a_result(house, client):
    refused = client.post({}, authorization="Bearer nobody")
    attempts, request = house.results(refused)
    assert attempts == []
    assert (request["status"], request["error"], request["key"], request["outcome"]) == (
        401,
        "invalid_api_key",
        None,
        None,
    )
    attempts, request = house.results(client.get("/v1/models"))
    assert (attempts, request["status"], request["key"], request["model"]) == ([], 200, "test", None)


@pytest.mark.parametrize(
    ("model", "reason"), [("raise", "RuntimeError: the observer"), ("exit", "SystemExit: the obs")]
)
def test_one_that_stumbles_is_named_and_goes_on(house, client, fake_upstream, model, reason):
    assert client.create(model=model).status == 404
    fake_upstream.script(Reply(message_stream()))
    assert house.results(client.create())[1]["status"] == 200
    assert "Observer 'notes' failed in on_request_end" in house.gateway.log and reason in house.gateway.log


def test_one_that_hangs_holds_up_nobody(house, client, fake_upstream):
    assert client.create(model="hang").status == 404
    fake_upstream.script(Reply(message_stream()))
    answer = client.create()
    assert answer.status == 200
    others = house.folder / "notes.jsonl.other"
    wait_until(lambda: answer.headers["x-request-id"] in others.read_text())
    assert all(line["result"]["id"] != answer.headers["x-request-id"] for line in house.notes("on_request_end"))
    (house.folder / "go-on").touch()
    assert house.results(answer)[1]["status"] == 200


def test_one_that_meddles_changes_nothing(house, client, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    client.headers["x-test-meddle"] = "yes"
    answer = client.create([{"role": "user", "content": "Hi"}], temperature=1)
    assert answer.status == 200 and "x-floway-ignored" not in answer.headers
    (request,) = fake_upstream.requests
    body = json.loads(request.body)
    assert (body["model"], body["input"]) == ("model-1", [{"role": "user", "content": "Hi"}])
    assert request.header("x-meddled") is None
    for hook, field in (("on_attempt_start", "model"), ("prepare_responses_request", "body")):
        assert f"Observer 'notes' failed in {hook}" in house.gateway.log
        assert f"FrozenInstanceError: cannot assign to field '{field}'" in house.gateway.log


def test_one_that_takes_long_before_a_commit_does_not_lock_the_database(house, client, fake_upstream):
    fake_upstream.script(Reply(message_stream()), Reply(message_stream()))
    headers = {**client.headers, "x-test-commit": f"wait {SLOW_SECONDS + 0.1}"}
    slow = ApiClient(house.gateway.url, house.gateway.key, headers).create()
    wait_until(lambda: house.notes("on_snapshot_commit"))
    other = client.create()
    assert other.status == 200
    assert client.get(f"/v1/responses/{other.json()['id']}").status == 200
    (house.folder / "commit").touch()
    assert slow.status == 200
    assert client.get(f"/v1/responses/{slow.json()['id']}").status == 200
    assert re.search(r"Observer 'notes' took [0-9.]+ seconds in on_snapshot_commit", house.gateway.log)


def test_one_that_exits_before_a_commit_loses_its_metadata_only(house, client, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    client.headers["x-test-exit"] = "yes"
    answer = client.create()
    assert client.get(f"/v1/responses/{answer.json()['id']}").status == 200
    assert "Observer 'notes' failed in on_snapshot_commit" in house.gateway.log


def test_results_are_delivered_before_the_server_stops(tmp_path, plugin_folder, journal_file, fake_upstream):
    house = House(tmp_path, plugin_folder, journal_file, graceful_timeout="20")
    with house.gateway as gateway:
        client = ApiClient(gateway.url, gateway.key)
        answers = [client.create(model="slow"), client.create(model="none")]
        assert all(answer.json()["error"]["code"] == "model_not_found" for answer in answers)
        assert gateway.stop() == 0
        lines = [json.loads(line) for line in house.file.read_text().splitlines()]
        ids = {line["result"]["id"] for line in house.notes("on_request_end") if line["result"]["model"]}
        assert ids == {answer.headers["x-request-id"] for answer in answers}
        assert lines[-1]["hook"] == "on_stop" and 0 < lines[-1]["timeout"] <= OBSERVER_FLUSH_SECONDS
        assert len(house.notes("on_stop")) == len(house.notes("on_start"))
