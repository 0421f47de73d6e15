"""The body that the backend receives."""

import json

import pytest
from floway_codex.request import DEFAULT_INSTRUCTIONS, LONGEST_ITEM_ID, REJECTED

from floway_core.protocol import jsontext

from .conftest import MODELS_URL

USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "ping"}]}


@pytest.fixture
def body(prepared):
    def make(**given):
        return prepared({"model": "gpt-5.5", "input": [USER], **given}).body

    return make


def test_the_smallest_request(body):
    made = body(input="ping")
    assert made["input"] == [USER]
    assert (made["store"], made["stream"]) == (False, True)
    assert made["include"] == ["reasoning.encrypted_content"]
    assert made["instructions"] == DEFAULT_INSTRUCTIONS
    assert list(made) == ["model", "instructions", "input", "store", "stream", "include", "prompt_cache_key",
                          "client_metadata"]


def test_store_and_stream_are_forced(body):
    made = body(store=True, stream=False)
    assert (made["store"], made["stream"]) == (False, True)


def test_rejected_fields_are_left_out_and_others_stay(body):
    given = {name: "x" for name in REJECTED}
    made = body(**given, tools=[], tool_choice="auto", text={"verbosity": "low"}, reasoning={"effort": "low"})
    assert not REJECTED & set(made)
    assert made["tools"] == [] and made["text"] == {"verbosity": "low"}


def test_unknown_fields_go_behind_unless_they_say_nothing(body):
    made = body(prompt={"id": "p"}, background=False, conversation=None, previous_response_id="resp_1")
    assert list(made)[-2:] == ["prompt", "previous_response_id"]
    assert "background" not in made and "conversation" not in made


@pytest.mark.parametrize("given, expected", [
    ({}, DEFAULT_INSTRUCTIONS),
    ({"instructions": None}, DEFAULT_INSTRUCTIONS),
    ({"instructions": ""}, DEFAULT_INSTRUCTIONS),
    ({"instructions": "Mine."}, "Mine."), ({"instructions": 7}, 7),
])
def test_instructions(body, given, expected):
    assert body(**given)["instructions"] == expected


def test_a_responses_lite_model_gets_the_header_and_no_instructions(prepared, provider, upstream, network):
    network.get(MODELS_URL, json={"models": [{"slug": "sol", "use_responses_lite": True}, {"slug": "gpt-5.5"}]})
    provider.list_models(upstream)
    lite = prepared({"model": "sol", "input": []})
    assert lite.headers["x-openai-internal-codex-responses-lite"] == "true" and "instructions" not in lite.body
    assert "x-openai-internal-codex-responses-lite" not in prepared().headers


@pytest.mark.parametrize("given", [None, "mine"])
def test_a_stated_prompt_cache_key_is_kept(body, given):
    assert body(prompt_cache_key=given)["prompt_cache_key"] == given


def test_the_prompt_cache_key_is_the_thread(prepared):
    assert prepared(headers={"thread-id": "t"}).body["prompt_cache_key"] == "t"


@pytest.mark.parametrize("given, expected", [
    (None, ["reasoning.encrypted_content"]),
    (["web_search_call.action.sources"], ["web_search_call.action.sources", "reasoning.encrypted_content"]),
    (["reasoning.encrypted_content"], ["reasoning.encrypted_content"]),
    ("nonsense", "nonsense"),
])
def test_include(body, given, expected):
    assert body(include=given)["include"] == expected


def test_system_messages_become_developer_messages(body):
    made = body(input=[{"role": "system", "content": "a"}, {"type": "message", "role": "system", "content": "b"}, USER])
    assert [item["role"] for item in made["input"]] == ["developer", "developer", "user"]


@pytest.mark.parametrize("item, kept", [
    ({"type": "message", "role": "user", "id": "msg_1"}, True),
    ({"role": "user", "id": "msg_1"}, True),
    ({"role": "user", "id": "item_1"}, False),
    ({"type": "message", "role": "assistant", "id": "rs_1"}, False),
    ({"type": "function_call", "id": "fc_1"}, True),
    ({"type": "function_call", "id": "fco_1"}, False),
    ({"type": "function_call_output", "id": "fco_1"}, True),
    ({"type": "reasoning", "id": "rs_" + "x" * (LONGEST_ITEM_ID - 3)}, True),
    ({"type": "reasoning", "id": "rs_" + "x" * (LONGEST_ITEM_ID - 2)}, False),
    ({"type": "reasoning", "id": "rs_ä"}, False),
    ({"type": "reasoning", "id": "rs_a.b"}, False),
    ({"type": "reasoning", "id": None}, False),
    ({"type": "reasoning", "id": 5}, False),
    ({"type": "unheard_of", "id": "anything-goes"}, True),
    ({"type": "unheard_of", "id": "but not this"}, False),
    ({"type": "item_reference", "id": "whatever this is"}, True),
    ({"type": ["strange"], "id": "x"}, True),
])
def test_item_ids_that_would_be_refused_are_dropped_and_the_item_stays(body, item, kept):
    made = body(input=[item, USER])["input"]
    assert made == [item if kept else {key: value for key, value in item.items() if key != "id"}, USER]


@pytest.mark.parametrize("given", [None, 5, {"role": "user"}, [1, "x"]])
def test_malformed_input_is_left_to_the_backend(body, given):
    assert body(input=given)["input"] == given


def test_the_clients_body_is_not_changed(attempt, prepared):
    given = {"model": "gpt-5.5", "input": [{"role": "system", "id": "x", "content": []}], "client_metadata": {"a": "b"}}
    before = json.dumps(given)
    prepared(given)
    assert json.dumps(given) == before


def test_lone_surrogates_survive(body):
    made = body(client_metadata={"note": "\ud83d"}, input="cut \ud83d")
    assert json.loads(jsontext.dumps(made)) == made


def test_headers_hold_nothing_but_latin_text(prepared):
    metadata = json.dumps({"workspaces": {"/home/ü/项目": {}}}, ensure_ascii=False)
    ctx = prepared(headers={"x-codex-turn-metadata": metadata})
    assert all(isinstance(value, str) and value.isascii() for value in ctx.headers.values())
