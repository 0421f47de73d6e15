"""Aliases and prefixes of models: their targets, their overrides, and the permissions of API keys."""

import json

import pytest

from floway_core.storage import aliases, upstreams
from floway_core.testing import ApiClient, Reply, items_stream, message_item

from .conftest import NAMES, floway, listed, refusal, sent, served


@pytest.fixture
def alias(house):
    """Makes an alias, as ``floway aliases set`` does."""

    def make(name, *targets, **overrides):
        pairs = [(model, upstream or None) for model, _, upstream in (target.partition("@") for target in targets)]
        aliases.put(house.database, name, pairs, aliases.Overrides(**overrides))

    return make


# ------------------------------------------------------------------------------------------------------------- targets
@pytest.mark.parametrize("stream", [False, True])
def test_an_alias_stands_for_a_model(ask, house, alias, stream):
    alias("fast", "shared@second")
    answer = ask("fast", stream=stream)
    assert (answer.status, answer.tried) == (200, ["second"])
    assert sent(house, "second")["model"] == "shared" and house.places["second"].requests[0].path == "/shared"
    responses = [event["response"] for event in answer.events() if "response" in event] if stream else [answer.json()]
    assert {response["model"] for response in responses} == {"fast"}, "clients see the name they asked for"
    stored = house.caller.get(f"/v1/responses/{responses[-1]['id']}").json()
    assert (stored["model"], stored["output"]) == ("fast", responses[-1]["output"])


def test_targets_are_tried_in_their_order(ask, alias):
    alias("fast", "third/shared", "shared@second", "shared")
    assert ask("fast").tried == ["third"]
    down = {"third": refusal(503)}
    assert ask("fast", down).tried == ["second", "third"]
    answer = ask("fast", down | {"second": refusal(500)})
    assert (answer.status, answer.tried) == (200, NAMES)
    answer = ask("fast", down | {"second": refusal(500), "first": refusal(503)})
    assert (answer.status, answer.tried) == (503, NAMES), "and nobody twice"


def test_a_refusal_is_dealt_with_as_without_an_alias(ask, alias):
    alias("fast", "shared@second", "shared@first", "shared@third")
    assert ask("fast", {"second": refusal(429)}).tried == ["second", "third"]
    answer = ask("fast", {"second": refusal(400)})
    assert (answer.status, answer.tried) == (400, ["second"])


def test_a_conversation_goes_on_under_an_alias(ask, house, alias):
    alias("fast", "shared@third")
    begun = ask("fast").json()["id"]
    alias("fast", "shared@second")
    answer = ask("fast", previous_response_id=begun)
    assert (answer.status, answer.tried) == (200, ["second"])
    assert [item["role"] for item in sent(house, "second")["input"]] == ["user", "assistant", "user"]


def test_an_alias_may_take_the_name_of_a_model(ask, house, gateway, alias):
    alias("shared", "shared@third")
    assert ask("shared").tried == ["third"]
    assert listed(house.caller).count("shared") == 1 and served(gateway)["shared"] == ["third"]
    floway(gateway, "aliases", "remove", "shared")
    assert ask("shared").tried == ["first"]
    assert "no alias named 'shared'" in gateway.run("aliases", "remove", "shared").stderr


def test_an_alias_stands_for_models_only(ask, alias):
    alias("one", "two")
    alias("two", "one", "shared")
    assert ask("one").status == 404
    assert ask("two").tried == ["first"]


def test_what_cannot_be_served_is_not_there(ask, house, gateway, alias):
    alias("gone", "nothing", "shared@second")
    assert "gone" in listed(house.caller) and ask("gone").tried == ["second"]
    upstreams.remove(house.database, "second")
    assert "gone" not in listed(house.caller) and "gone" not in served(gateway)
    assert ask("gone").body == ask("unknown").body.replace(b"unknown", b"gone")
    upstreams.add(house.database, "near", "second")
    assert ask("gone").status == 404, "this is another upstream, though it has the name"
    assert json.loads(floway(gateway, "aliases", "list", "--json"))[0]["targets"] == [
        {"model": "nothing", "upstream": None}
    ]


@pytest.mark.parametrize("model", ["\ud800", "a\0b", "x" * 10_000])
def test_what_can_be_no_name_is_not_even_looked_for(ask, model):
    answer = ask(model)
    assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")


# ----------------------------------------------------------------------------------------------------------- overrides
def test_overrides_go_before_what_the_client_says(ask, house, alias):
    alias("deep", "shared", effort="high", verbosity="low", service_tier="flex")
    given = {"reasoning": {"effort": "low", "summary": "auto"}, "text": {"format": {"type": "text"}}, "top_p": 1}
    ask("deep", **given, service_tier="priority")
    body = sent(house, "first")
    assert body["reasoning"] == {"effort": "high", "summary": "auto"}
    assert body["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert (body["service_tier"], body["top_p"]) == ("flex", 1)
    ask("deep", reasoning=None, text=None)
    assert (sent(house, "first")["reasoning"], sent(house, "first")["text"]) == (
        {"effort": "high"},
        {"verbosity": "low"},
    )


def test_what_is_not_overridden_is_the_clients(ask, house, alias):
    alias("plain", "shared")
    ask("plain", reasoning={"effort": "low"})
    body = sent(house, "first")
    assert body["reasoning"] == {"effort": "low"} and not {"text", "service_tier"} & body.keys()
    alias("plain", "shared", effort="minimal")
    ask("plain")
    assert sent(house, "first")["reasoning"] == {"effort": "minimal"}


def test_overrides_hold_for_a_summary_too(ask, house, alias):
    alias("cheap", "shared@second", service_tier="flex")
    house.places["second"].script(Reply([b"{}"]))
    ask("cheap", input=[{"type": "message", "role": "user", "content": "Hi"}, {"type": "compaction_trigger"}])
    assert sent(house, "second")["service_tier"] == "flex"


# ------------------------------------------------------------------------------------------------------------- listing
def test_clients_see_aliases(house, alias):
    alias("fast", "shared@third", "shared")
    shown = house.caller.get("/v1/models/fast").json()
    assert shown == {"id": "fast", "object": "model", "created": 0, "owned_by": "far"}
    assert listed(house.caller)[-1] == "fast"


def test_the_command_line_makes_and_shows_them(house, gateway):
    floway(gateway, "aliases", "set", "fast", "shared@second", "third/shared", "--effort", "low")
    floway(gateway, "aliases", "set", "odd", "a@b@", "--verbosity", "high", "--service-tier", "auto")
    lines = [line.split(maxsplit=1) for line in floway(gateway, "models").splitlines()]
    assert ["fast", "second (shared), third (shared)"] in lines
    lines = floway(gateway, "aliases", "list").splitlines()
    assert [line.split()[-3:] for line in lines[1:]] == [["low", "-", "-"], ["-", "high", "auto"]]
    assert "shared@second, third/shared" in lines[1] and "a@b@" in lines[2]
    assert json.loads(floway(gateway, "aliases", "list", "--json"))[0] == {
        "name": "fast",
        "targets": [{"model": "shared", "upstream": "second"}, {"model": "third/shared", "upstream": None}],
        "effort": "low",
        "verbosity": None,
        "service_tier": None,
    }


def test_upstreams_may_have_an_at_in_their_names(house, gateway):
    upstreams.add(house.database, "near", "me@example.com")
    upstreams.add(house.database, "near", "example.com")
    floway(gateway, "aliases", "set", "mine", "shared@me@example.com")
    floway(gateway, "aliases", "set", "ours", "a@b@example.com")
    shown = {row["name"]: row["targets"] for row in json.loads(floway(gateway, "aliases", "list", "--json"))}
    assert shown["mine"] == [{"model": "shared", "upstream": "me@example.com"}]
    assert shown["ours"] == [{"model": "a@b", "upstream": "example.com"}]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["x", "shared@nowhere"], "no upstream named 'nowhere'"),
        (["x"], "Missing argument"),
        (["x", ""], "short printable text"),
        ([" x", "shared"], "short printable text"),
        (["x" * 101, "shared"], "short printable text"),
        (["x", "shared", "--effort", "a b"], "'effort' is a word"),
        (["x", "shared", "--service-tier", "{}"], "'service_tier' is a word"),
        (["x", *["shared"] * 101], "1 to 100 targets"),
    ],
)
def test_what_is_no_alias(house, gateway, arguments, says):
    done = gateway.run("aliases", "set", *arguments)
    assert done.returncode != 0 and says in done.stderr and "Traceback" not in done.stderr
    assert aliases.all_rows(house.database) == []


# ------------------------------------------------------------------------------------------------------------ prefixes
@pytest.mark.parametrize("stream", [False, True])
def test_a_prefix_tells_the_models_of_an_upstream_apart(ask, house, gateway, stream):
    floway(gateway, "upstreams", "prefix", "first", "team/a")
    assert ask().tried == ["second"]
    answer = ask("team/a/shared", stream=stream)
    assert (answer.status, answer.tried) == (200, ["first"])
    assert sent(house, "first")["model"] == "shared"
    assert (answer.events()[-1]["response"] if stream else answer.json())["model"] == "team/a/shared"
    assert ask("team/a/first/shared").tried == ["first"]
    assert [ask(model).status for model in ("first/shared", "team/shared", "team/a/", "xteam/a/shared")] == [404] * 4
    assert listed(house.caller)[:2] == ["team/a/shared", "team/a/first/shared"]
    assert "first (shared)" in floway(gateway, "models")
    floway(gateway, "upstreams", "prefix", "first")
    assert ask().tried == ["first"]


def test_an_upstream_may_have_a_prefix_from_the_start(house, gateway):
    floway(gateway, "upstreams", "add", "near", "fourth", "--prefix", "p")
    assert "p/shared" in listed(house.caller)
    assert floway(gateway, "upstreams", "list").splitlines()[4].split()[:4] == ["fourth", "near", "yes", "p"]
    assert json.loads(floway(gateway, "upstreams", "list", "--json"))[3]["prefix"] == "p"
    for command in (["prefix", "first", "a b"], ["add", "near", "fifth", "--prefix", "a/"]):
        assert "A prefix has" in gateway.run("upstreams", *command).stderr
    assert "no upstream named 'x'" in gateway.run("upstreams", "prefix", "x", "p").stderr
    assert [row.prefix for row in upstreams.all_rows(house.database)] == ["", "", "", "p"]


def test_an_alias_of_a_model_with_a_prefix(ask, house, alias):
    upstreams.change(house.database, "third", prefix="p")
    alias("fast", "p/shared")
    answer = ask("fast")
    assert (answer.tried, answer.json()["model"], sent(house, "third")["model"]) == (["third"], "fast", "shared")


# ------------------------------------------------------------------------------------------------------- what a key may
@pytest.fixture
def holder(gateway):
    """Makes a client whose key may use what the options say."""
    made = []

    def make(*options):
        name = f"restricted {len(made)}"
        made.append(name)
        return ApiClient(gateway.url, floway(gateway, "keys", "create", name, *options).strip())

    yield make
    for name in made:
        floway(gateway, "keys", "delete", name, "--yes")


def test_a_key_for_some_models(ask, house, alias, holder):
    alias("fast", "second/shared")
    caller = holder("--model", "fast", "--model", "first/shared", "--model", "not there yet")
    assert listed(caller) == ["first/shared", "fast"]
    assert ask("fast", caller=caller).tried == ["second"], "an alias brings what it stands for"
    assert ask("first/shared", caller=caller).tried == ["first"]
    for model in ("shared", "second/shared"):
        refused, unknown = ask(model, caller=caller), ask("unknown", caller=caller)
        assert (refused.status, refused.tried) == (404, [])
        assert refused.body == unknown.body.replace(b"unknown", model.encode())
        refused, unknown = caller.get(f"/v1/models/{model}"), caller.get("/v1/models/unknown")
        assert refused.status == 404 and refused.body == unknown.body.replace(b"unknown", model.encode())


def test_a_key_for_some_upstreams(ask, house, alias, holder):
    alias("fast", "shared@first")
    alias("any", "shared")
    caller = holder("--upstream", "second")
    assert listed(caller) == ["shared", "second/shared", "any"]
    assert ask(caller=caller).tried == ask("any", caller=caller).tried == ["second"]
    answer = ask(caller=caller, replies={"second": refusal(503)})
    assert (answer.status, answer.tried) == (503, ["second"]), "nobody else takes over"
    assert [ask(model, caller=caller).status for model in ("first/shared", "fast")] == [404, 404]


def test_a_key_hears_nothing_of_other_upstreams(ask, house, holder):
    upstreams.add(house.database, "near", "moody")
    assert b"moody" in ask("unknown").body
    assert b"moody" not in ask("unknown", caller=holder("--upstream", "second")).body


def test_a_conversation_stays_away_from_what_its_key_may_not_use(ask, house, gateway, holder):
    caller = holder()
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}
    begun = ask(caller=caller, replies={"first": Reply(items_stream([reasoning, message_item("One.")]))}).json()["id"]
    floway(gateway, "keys", "change", "restricted 0", "--upstream", "second")
    answer = ask(caller=caller, previous_response_id=begun)
    assert (answer.status, answer.tried) == (200, ["second"])
    assert [item["type"] for item in sent(house, "second")["input"]] == ["message", "message", "message"]
