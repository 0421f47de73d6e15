"""The body that the backend receives."""

import json

import pytest
from floway_codex.wire.items import MAX_ID_LENGTH
from floway_codex.wire.request import COMPACTION, DEFAULT_INSTRUCTIONS, UNSUPPORTED_FIELDS

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
    assert list(made) == [
        "model",
        "instructions",
        "input",
        "store",
        "stream",
        "include",
        "prompt_cache_key",
        "client_metadata",
    ]


def test_store_and_stream_are_forced(body):
    made = body(store=True, stream=False)
    assert (made["store"], made["stream"]) == (False, True)


def test_rejected_fields_are_left_out_and_others_stay(body):
    given = dict.fromkeys(UNSUPPORTED_FIELDS, "x")
    made = body(**given, tools=[], tool_choice="auto", text={"verbosity": "low"}, reasoning={"effort": "low"})
    assert not UNSUPPORTED_FIELDS & set(made)
    assert made["tools"] == [] and made["text"] == {"verbosity": "low"}


def test_unknown_fields_go_behind_unless_they_say_nothing(body):
    made = body(prompt={"id": "p"}, background=False, conversation=None, previous_response_id="resp_1")
    assert list(made)[-2:] == ["prompt", "previous_response_id"]
    assert "background" not in made and "conversation" not in made


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, DEFAULT_INSTRUCTIONS),
        ({"instructions": None}, DEFAULT_INSTRUCTIONS),
        ({"instructions": ""}, DEFAULT_INSTRUCTIONS),
        ({"instructions": "Mine."}, "Mine."),
        ({"instructions": 7}, 7),
    ],
)
def test_instructions(body, given, expected):
    assert body(**given)["instructions"] == expected


def test_turn_metadata_of_a_wrong_type_is_ignored(prepared):
    wrong = {"request_kind": 5, "sandbox": ["x"], "turn_started_at_unix_ms": True, "workspaces": "x", "turn_id": {},
             "compaction": [], "subagent_kind": 1, "other": 1}  # fmt: skip
    made = json.loads(prepared(headers={"x-codex-turn-metadata": json.dumps(wrong)}).headers["x-codex-turn-metadata"])
    assert (made["request_kind"], made["sandbox"], made["other"]) == ("turn", "none", 1)
    assert type(made["turn_started_at_unix_ms"]) is int and isinstance(made["turn_id"], str)
    assert not {"workspaces", "compaction", "subagent_kind"} & set(made)


def test_a_line_in_the_log_says_where_the_ids_come_from(prepared, caplog):
    caplog.set_level("DEBUG", "floway.codex")
    prepared({"model": "gpt-5.5", "input": [USER]}, {"session-id": "mine"})
    (line,) = [record.getMessage() for record in caplog.records if record.name == "floway.codex"]
    assert line.startswith("Attempt att_1: session mine (header: session-id), thread mine (session), ")
    assert line.endswith("turn state absent")


# ------------------------------------------------------------------------------------------------------ responses-lite
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
LEADING_TOOLS = {"type": "additional_tools", "role": "developer", "tools": [FUNCTION]}


@pytest.fixture
def lite(prepared, provider, upstream, network):
    """Sends requests to a responses-lite model."""
    network.get(MODELS_URL, json={"models": [{"slug": "sol", "use_responses_lite": True}, {"slug": "gpt-5.5"}]})
    provider.list_models(upstream)
    return lambda headers=None, **given: prepared({"model": "sol", "input": [USER], **given}, headers)


def test_a_responses_lite_model_gets_the_header_and_no_instructions(lite, prepared):
    sent = lite()
    assert sent.headers["x-openai-internal-codex-responses-lite"] == "true" and "instructions" not in sent.body
    assert (sent.body["parallel_tool_calls"], sent.body["reasoning"]) == (False, {"context": "all_turns"})
    assert sent.body["input"] == [USER] and "tools" not in sent.body
    assert "x-openai-internal-codex-responses-lite" not in prepared().headers


def test_tools_and_instructions_lead_the_input_of_a_responses_lite_model(lite):
    sent = lite(tools=[FUNCTION, {"type": "web_search"}], instructions="Mine.", parallel_tool_calls=True,
                reasoning={"effort": "low"}, tool_choice="auto").body  # fmt: skip
    instructions = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Mine."}]}
    assert sent["input"] == [LEADING_TOOLS, instructions, USER]
    assert not {"tools", "instructions"} & set(sent)
    assert (sent["parallel_tool_calls"], sent["tool_choice"]) == (False, "auto")
    assert sent["reasoning"] == {"effort": "low", "context": "all_turns"}


CLI = {
    "originator": "codex_exec",
    "user-agent": "codex_exec/0.142.0 (Debian 12.0.0; x86_64) xterm (codex_exec; 0.142.0)",
}


def test_a_codex_client_that_knows_the_form_is_left_alone(lite):
    given = {"tools": [FUNCTION, {"type": "web_search"}], "instructions": "Mine.", "parallel_tool_calls": False}
    knows = lite({**CLI, "x-openai-internal-codex-responses-lite": "true"}, **given).body
    assert {name: knows[name] for name in given} == given and knows["input"] == [USER]
    knows_not = lite(CLI, **given).body
    assert knows_not["input"][0] == LEADING_TOOLS and "tools" not in knows_not


# -------------------------------------------------------------------------------------------------------------- tools
@pytest.mark.parametrize("kind", ["code_interpreter", "computer", "computer_use_preview", "file_search", "mcp"])
def test_tools_that_the_backend_refuses_never_leave(body, kind):
    refused = {"type": kind, "server_url": "https://example.com"}
    made = body(tools=[refused, FUNCTION], tool_choice="required")
    assert (made["tools"], made["tool_choice"]) == ([FUNCTION], "required")
    assert body(tools=[refused], tool_choice="required")["tool_choice"] == "auto"
    assert body(tools=[refused, FUNCTION], tool_choice={"type": kind})["tool_choice"] == "auto"
    assert "tool_choice" not in body(tools=[refused])


def test_other_tools_are_passed_on_as_they_are(body):
    tools = [
        FUNCTION,
        {"type": "custom", "name": "x"},
        {"type": "web_search"},
        {"type": "unheard_of"},
        {"name": "x"},
        5,
    ]
    choice = {"type": "function", "name": "f"}
    made = body(tools=tools, tool_choice=choice)
    assert (made["tools"], made["tool_choice"]) == (tools, choice)
    assert body(tools="nonsense")["tools"] == "nonsense"


def test_call_ids_that_would_be_refused_are_replaced_alike_in_call_and_output(body):
    fine, long, odd = "call_1", "c" * 65, "functions.f:0"
    given = [
        {"type": kind, "call_id": name} for name in (fine, long, odd, "") for kind in ("function_call", "x_output")
    ]
    made = [item["call_id"] for item in body(input=given)["input"]]
    assert made[0::2] == made[1::2] and len(set(made)) == 4 and made[0] == fine
    assert all(len(name) <= 64 and name.startswith("call_") for name in made)
    assert made == [item["call_id"] for item in body(input=given)["input"]]


def test_references_never_leave(body):
    """Core has put the items in their place; what is left of them would mean nothing upstream."""
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
    for name in ({"type": "item_reference", "id": "msg_1"}, reasoning, {**reasoning, "encrypted_content": None}):
        assert body(input=[name, USER])["input"] == [USER]
    whole = {**reasoning, "encrypted_content": "sealed"}
    assert body(input=[whole, USER])["input"] == [whole, USER]


# --------------------------------------------------------------------------------------------------------- compaction
TRIGGER = {"type": "compaction_trigger"}


@pytest.mark.parametrize("stated, expected", [
    (None, COMPACTION),
    ({"request_kind": "turn"}, COMPACTION),
    ({"compaction": "nonsense"}, COMPACTION),
    ({"compaction": {"trigger": "auto", "phase": "mid_turn", "implementation": "responses_compact"}},
     {**COMPACTION, "trigger": "auto", "phase": "mid_turn"}),
])  # fmt: skip
def test_a_trigger_makes_the_request_a_compaction(prepared, stated, expected):
    headers = {"x-codex-turn-metadata": json.dumps(stated)} if stated else {}
    sent = prepared({"model": "gpt-5.5", "input": [USER, TRIGGER]}, headers)
    metadata = json.loads(sent.headers["x-codex-turn-metadata"])
    assert (metadata["request_kind"], metadata["compaction"]) == ("compaction", expected)
    assert sent.body["input"] == [USER, TRIGGER]
    assert list(metadata)[-1] == "compaction"


def test_a_turn_is_no_compaction(prepared):
    metadata = json.loads(prepared().headers["x-codex-turn-metadata"])
    assert metadata["request_kind"] == "turn" and "compaction" not in metadata


# -------------------------------------------------------------------------------------------------------------- other
@pytest.mark.parametrize("given", [None, "mine"])
def test_a_stated_prompt_cache_key_is_kept(body, given):
    assert body(prompt_cache_key=given)["prompt_cache_key"] == given


def test_the_prompt_cache_key_is_the_thread(prepared):
    assert prepared(headers={"thread-id": "t"}).body["prompt_cache_key"] == "t"


@pytest.mark.parametrize(
    "given, expected",
    [
        (None, ["reasoning.encrypted_content"]),
        (["web_search_call.action.sources"], ["web_search_call.action.sources", "reasoning.encrypted_content"]),
        (["reasoning.encrypted_content"], ["reasoning.encrypted_content"]),
        ("nonsense", "nonsense"),
    ],
)
def test_include(body, given, expected):
    assert body(include=given)["include"] == expected


def test_system_messages_become_developer_messages(body):
    made = body(input=[{"role": "system", "content": "a"}, {"type": "message", "role": "system", "content": "b"}, USER])
    assert [item["role"] for item in made["input"]] == ["developer", "developer", "user"]


REASONING = {"type": "reasoning", "encrypted_content": "sealed"}


@pytest.mark.parametrize(
    "item, kept",
    [
        ({"type": "message", "role": "user", "id": "msg_1"}, True),
        ({"type": "message", "role": "user", "id": "item_1"}, False),
        ({"type": "message", "role": "assistant", "id": "rs_1"}, False),
        ({"type": "function_call", "id": "fc_1"}, True),
        ({"type": "function_call", "id": "fco_1"}, False),
        ({"type": "function_call_output", "id": "fco_1"}, True),
        ({**REASONING, "id": "rs_" + "x" * (MAX_ID_LENGTH - 3)}, True),
        ({**REASONING, "id": "rs_" + "x" * (MAX_ID_LENGTH - 2)}, False),
        ({**REASONING, "id": "rs_ä"}, False),
        ({**REASONING, "id": "rs_a.b"}, False),
        ({**REASONING, "id": None}, False),
        ({**REASONING, "id": 5}, False),
        ({"type": "unheard_of", "id": "anything-goes"}, True),
        ({"type": "unheard_of", "id": "but not this"}, False),
        ({"type": "mcp_approval_request", "id": "mcpar_1"}, True),
        ({"type": "mcp_approval_request", "id": "mcp_1"}, False),
    ],
)
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
