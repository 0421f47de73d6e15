"""Which of several upstreams serves a request: their order, who is left out, who takes over, who goes on."""

import json
from types import SimpleNamespace

import pytest

from floway_core.db import connect
from floway_core.store import upstreams
from floway_core.testing import (
    Caller,
    FakeUpstream,
    Reply,
    RunningGateway,
    Step,
    items_stream,
    message_item,
    message_stream,
    write_plugin,
)

PLUGIN = '''"""Two providers for tests; each request says in a header where the upstreams are."""

import json

from floway_core.errors import GatewayError
from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext
from floway_core.provider import Model, Provider
from floway_core.upstream import HttpClient


class Near(Provider):
    kind = "near"

    def __init__(self, services):
        self.http = HttpClient(services.settings)

    def list_models(self, upstream):
        if upstream.name == "moody":
            raise GatewayError(502, "It gives no list.")
        return [Model("shared", self.kind), Model(f"{upstream.name}/shared", self.kind, upstream_name="shared")]

    def send(self, ctx):
        url = json.loads(ctx.attempt.request.headers["x-test-urls"])[ctx.attempt.upstream.name]
        return self.http.stream(ctx, "POST", f"{url}/{ctx.attempt.model}", {}, jsontext.dumps(ctx.body))


class Far(Near):
    kind = "far"


@hookimpl
def register_providers(services):
    return [Near(services), Far(services)]


@hookimpl
def register_commands(cli):
    @cli.group("far")
    def group():
        """A command of its own."""
'''

NAMES = ["first", "second", "third"]
KINDS = {"first": "near", "second": "near", "third": "far"}
ANSWER = Reply(message_stream())
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("routed")
    write_plugin(folder, "routed", PLUGIN)
    with RunningGateway(plugin_folders=[folder]) as running:
        yield running


@pytest.fixture
def house(gateway):
    """Three upstreams in their order, two of them of one kind, and a client that knows where they are."""
    database = connect(f"sqlite:///{gateway.database}")
    places = {name: FakeUpstream() for name in NAMES}
    for name in NAMES:
        upstreams.add(database, KINDS[name], name)
    caller = Caller(gateway.url, gateway.key)
    yield SimpleNamespace(places=places, caller=caller, database=database)
    for row in upstreams.all_rows(database):
        upstreams.remove(database, row.name)
    for place in places.values():
        place.close()
    database.close_all()


@pytest.fixture
def ask(house):
    """Sends a request; each upstream answers as told, else well. The answer knows who was ``tried``."""

    def send(model="shared", replies=None, urls=None, **fields):
        for name, place in house.places.items():
            place.forget()
            place.script((replies or {}).get(name, ANSWER))
        where = {name: place.url for name, place in house.places.items()} | (urls or {})
        house.caller.headers["x-test-urls"] = json.dumps(where)
        exchange = house.caller.create(model=model, **fields)
        exchange.tried = [name for name, place in house.places.items() if exchange.body and place.requests]
        return exchange

    return send


def floway(gateway, *arguments):
    done = gateway.run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def served(gateway):
    return json.loads(floway(gateway, "models", "--json"))


def refusal(status):
    return Reply([b'{"error":{"message":"No."}}'], status, [("content-type", "application/json")])


# ---------------------------------------------------------------------------------------------------- order, in and out
def test_the_first_in_order_serves(ask, house, gateway):
    assert ask().tried == ["first"]
    floway(gateway, "upstreams", "move", "third", "1")
    assert ask().tried == ["third"]
    assert served(gateway)["shared"] == ["third", "first", "second"]
    floway(gateway, "upstreams", "move", "third", "2")
    assert ask().tried == ["first"]
    assert served(gateway)["shared"] == ["first", "third", "second"]


def test_a_disabled_one_is_left_out(ask, house, gateway):
    floway(gateway, "upstreams", "disable", "first")
    assert ask().tried == ["second"]
    assert ask("first/shared").status == 404
    assert "first/shared" not in served(gateway)
    floway(gateway, "upstreams", "enable", "first")
    assert ask().tried == ["first"]


def test_changes_count_from_the_next_request_on(ask, house, gateway):
    for name in ("first", "second"):
        floway(gateway, "upstreams", "remove", name)
    assert ask().tried == ["third"]
    floway(gateway, "upstreams", "add", "near", "first")
    assert ask("first/shared").tried == ["first"]
    assert ask().tried == ["third"], "a new one comes last"


def test_a_model_of_one_upstream(ask, house):
    answer = ask("second/shared")
    assert (answer.status, answer.tried) == (200, ["second"])
    (request,) = house.places["second"].requests
    assert request.path == "/shared" and json.loads(request.body)["model"] == "shared", "the upstream's own name"
    failed = ask("second/shared", {"second": refusal(500)})
    assert (failed.status, failed.tried) == (500, ["second"])
    listed = [model["id"] for model in house.caller.get("/v1/models").json()["data"]]
    assert sorted(listed) == ["first/shared", "second/shared", "shared", "third/shared"]


# ------------------------------------------------------------------------------------------------------ who takes over
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 529])
def test_when_one_fails_the_next_is_tried(ask, status, stream):
    answer = ask(replies={"first": refusal(status)}, stream=stream)
    assert (answer.status, answer.tried) == (200, ["first", "second"])
    answer = ask(replies={"first": refusal(status), "second": refusal(503)}, stream=stream)
    assert (answer.status, answer.tried) == (200, NAMES)


@pytest.mark.parametrize("step", [Step.CUT, Step.RESET])
def test_when_one_hangs_up_the_next_is_tried(ask, step):
    answer = ask(replies={"first": Reply(before=[step])})
    assert (answer.status, answer.tried) == (200, ["first", "second"])


def test_when_one_cannot_be_reached_the_next_is_tried(ask, unreachable):
    answer = ask(urls={"first": unreachable, "second": unreachable})
    assert (answer.status, answer.tried) == (200, ["third"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_refused_account_gives_way_to_another_provider_only(ask, house, gateway, status, stream):
    answer = ask(replies={"first": refusal(status)}, stream=stream)
    assert (answer.status, answer.tried) == (200, ["first", "third"])
    answer = ask(replies={"first": refusal(500), "second": refusal(status), "third": refusal(503)}, stream=stream)
    assert (answer.status, answer.tried) == (503, NAMES), "the last refusal is the client's"
    upstreams.set_enabled(house.database, "third", False)
    answer = ask(replies={"first": refusal(status)}, stream=stream)
    assert (answer.status, answer.tried) == (status, ["first"])


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
def test_a_bad_request_is_tried_once(ask, status):
    answer = ask(replies={"first": refusal(status)})
    assert (answer.status, answer.tried) == (status, ["first"])


def test_an_answer_that_has_begun_is_nobody_elses(ask):
    answer = ask(replies={"first": Reply([ANSWER.chunks[0], Step.CUT])}, stream=True)
    assert answer.events()[-1]["type"] == "response.failed" and answer.tried == ["first"]
    answer = ask(replies={"first": Reply([ANSWER.chunks[0], Step.CUT])})
    assert (answer.status, answer.tried) == (502, ["first"])


# -------------------------------------------------------------------------------------------------------- who goes on
@pytest.fixture
def by_second(ask, house):
    """A response whose reasoning only the second upstream can read."""
    upstreams.move(house.database, "second", 1)
    answer = ask(replies={"second": Reply(items_stream([REASONING, message_item("One.")]))})
    assert answer.tried == ["second"]
    upstreams.move(house.database, "second", 3)
    return answer.json()["id"]


def sent_types(house, name):
    return [item["type"] for item in json.loads(house.places[name].requests[0].body)["input"]]


def test_a_conversation_stays_where_its_reasoning_is(ask, house, by_second):
    assert ask(previous_response_id=by_second).tried == ["second"]
    assert sent_types(house, "second") == ["message", "reasoning", "message", "message"]
    assert ask().tried == ["first"], "another one does not"


def test_a_conversation_goes_on_elsewhere_without_the_reasoning(ask, house, by_second):
    answer = ask(previous_response_id=by_second, replies={"second": refusal(500)})
    assert (answer.status, answer.tried) == (200, ["first", "second"])
    assert sent_types(house, "first") == ["message", "message", "message"]
    upstreams.set_enabled(house.database, "second", False)
    assert ask(previous_response_id=by_second).tried == ["first"]


# ------------------------------------------------------------------------------------------------------------ commands
def test_models_as_a_table_and_what_cannot_be_listed(house, gateway):
    upstreams.add(house.database, "near", "moody")
    done = gateway.run("models")
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert lines[:2] == [["MODEL", "UPSTREAMS"], ["shared", "first, second, third"]] and len(lines) == 5
    assert "'moody'" in done.stderr and "floway upstreams test moody" in done.stderr


def test_upstreams_are_added_to_providers_that_have_no_command(house, gateway):
    assert "no provider 'nowhere'" in gateway.run("upstreams", "add", "nowhere", "x").stderr
    assert "floway far --help" in gateway.run("upstreams", "add", "far", "x").stderr
    assert "already an upstream named 'first'" in gateway.run("upstreams", "add", "near", "first").stderr
    assert [row.name for row in upstreams.all_rows(house.database)] == NAMES
