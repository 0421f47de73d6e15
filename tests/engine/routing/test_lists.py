"""Model lists over the network: which requests wait for them, and which do not."""

import json

import pytest

from floway_core.storage import upstreams
from floway_core.testing import FakeUpstream, Reply, Step

from .conftest import ANSWER, floway, listed

JSON = [("content-type", "application/json")]


def models(*names, before=()):
    return Reply([json.dumps(names).encode()], headers=JSON, before=before)


def held(*names):
    """A list that comes when the upstream is told to let go."""
    return models(*names, before=[Step.HOLD])


@pytest.fixture
def add(house):
    """Adds an upstream, behind the others unless ``place`` says where."""
    made = []

    def remote(reply, place=None):
        made.append(FakeUpstream())
        made[-1].answer_always("/models", reply)
        upstreams.add(house.database, "remote", made[-1].url)
        upstreams.change(house.database, made[-1].url, place=place)
        return made[-1]

    yield remote
    for upstream in made:
        upstream.close()


def asked(upstream):
    return [request.path for request in upstream.requests if request.method == "GET"]


def test_nobody_waits_for_the_list_of_an_upstream_that_is_not_needed(ask, add):
    silent = add(held("theirs"), place=1)
    assert [ask().tried for _ in range(3)] == [["first"]] * 3
    assert len(asked(silent)) == 1, "it is asked once, for all who wait"
    silent.release.set()
    silent.script(ANSWER)
    assert ask("theirs").status == 200


def test_who_needs_it_waits_for_a_list(house, add):
    remote = add(held("theirs"))
    remote.script(ANSWER)
    exchange = house.caller.create(model="theirs")
    remote.wait_for_request()
    remote.release.set()
    assert exchange.status == 200
    assert "theirs" in listed(house.caller)


def test_lists_are_asked_for_together_and_the_order_holds(house, add):
    first, second = add(held("theirs")), add(held("theirs"))
    for upstream in (first, second):
        upstream.script(ANSWER)
    exchange = house.caller.create(model="theirs")
    for upstream in (second, first):
        upstream.wait_for_request()
    for upstream in (first, second):
        upstream.release.set()
    assert exchange.status == 200
    assert (len(first.requests), len(second.requests)) == (2, 1)


def test_after_a_failure_only_those_wait_who_need_it(ask, house, add):
    remote = add(Reply([b"No."], 500), place=1)
    assert ask().tried == ["first"] and len(asked(remote)) == 1
    remote.answer_always("/models", held("theirs"))
    assert ask().tried == ["first"] and len(asked(remote)) == 1
    message = f'(models from upstream(s) "{remote.url}" failed to load)'
    remote.answer_always("/models", Reply([b"No."], 500))
    assert message in ask("theirs").json()["error"]["message"] and len(asked(remote)) == 2
    remote.answer_always("/models", models("theirs"))
    remote.script(ANSWER)
    assert house.caller.create(model="theirs").status == 200


def test_a_failure_is_told_as_it_is_when_there_is_nothing_else(ask, house, gateway, add):
    for name in house.places:
        upstreams.remove(house.database, name)
    add(Reply([b"No."], 500))
    answer = ask()
    assert (answer.status, answer.json()["error"]["message"]) == (502, "It gives no list.")


def test_testing_an_upstream_asks_it_now(house, gateway, add):
    remote = add(models("one"))
    assert "serves 1 models: one" in floway(gateway, "upstreams", "test", remote.url)
    upstreams.change(house.database, remote.url, prefix="p")
    assert "p/one" in listed(house.caller)
    assert "serves 1 models: p/one" in floway(gateway, "upstreams", "test", remote.url)
    assert "no upstream named 'x'" in gateway.run("upstreams", "test", "x").stderr


def test_the_command_line_waits_for_all(house, gateway, add):
    remote, broken = add(models("theirs")), add(Reply([b"No."], 500))
    done = gateway.run("models", "--json")
    assert json.loads(done.stdout)["theirs"] == [remote.url]
    assert f"The models of '{broken.url}' are not available" in done.stderr


def test_a_plugin_that_stumbles_over_one_upstream_serves_the_others(ask, house, gateway, add):
    upstreams.add(house.database, "near", "clumsy")
    upstreams.change(house.database, "clumsy", place=1)
    odd = add(Reply([b"7"], headers=JSON), place=2)
    for _ in range(2):
        assert ask().tried == ["first"]
        hint = f'(models from upstream(s) "clumsy", "{odd.url}" failed to load)'
        assert hint in ask("unknown").json()["error"]["message"]
    assert "shared" in listed(house.caller)
    (told,) = house.caller.get("/readyz").json()["problems"]
    assert told == {"provider": "near", "problem": "The plugin of provider 'near' has failed: see the log."}
    assert "KeyError: 'data'" in gateway.log and "TypeError" in gateway.log
