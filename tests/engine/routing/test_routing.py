"""Routing between several upstreams: order, permissions, fallback and affinity."""

import json

import pytest

from floway_core.storage import upstreams
from floway_core.testing import Reply, Step, items_stream, message_item

from .conftest import ANSWER, NAMES, floway, refusal, served

REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}


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
        floway(gateway, "upstreams", "remove", name, "--yes")
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
    upstreams.change(house.database, "third", enabled=False)
    answer = ask(replies={"first": refusal(status)}, stream=stream)
    assert (answer.status, answer.tried) == ({401: 503, 403: 502}.get(status, status), ["first"])


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
def test_a_bad_request_is_tried_once(ask, status):
    answer = ask(replies={"first": refusal(status)})
    assert (answer.status, answer.tried) == (status, ["first"])


def test_an_answer_that_has_begun_is_nobody_elses(ask):
    cut = {"first": Reply([*ANSWER.chunks[:-1], Step.CUT])}
    answer = ask(replies=cut, stream=True)
    assert answer.events()[-1]["type"] == "response.failed" and answer.tried == ["first"]
    assert ask(replies=cut).tried == ["first", "second"], "who does not stream has been sent nothing"


def test_an_answer_without_content_gives_way(ask):
    begun = {"first": Reply([ANSWER.chunks[0], Step.CUT])}
    for stream in (True, False):
        answer = ask(replies=begun, stream=stream)
        assert (answer.status, answer.tried) == (200, ["first", "second"])


# -------------------------------------------------------------------------------------------------------- who goes on
@pytest.fixture
def by_second(ask, house):
    """A response whose reasoning only the second upstream can read."""
    upstreams.change(house.database, "second", place=1)
    answer = ask(replies={"second": Reply(items_stream([REASONING, message_item("One.")]))})
    assert answer.tried == ["second"]
    upstreams.change(house.database, "second", place=3)
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
    upstreams.change(house.database, "second", enabled=False)
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
