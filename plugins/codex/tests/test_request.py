"""The body that the backend receives."""

import json
import re

import pytest
from floway_codex.wire.items import MAX_ID_LENGTH, item_kind
from floway_codex.wire.profile import choose_profile
from floway_codex.wire.request import DEFAULT_INSTRUCTIONS, UNSUPPORTED_FIELDS

from floway_core.protocol import jsontext

from .conftest import MODELS_URL, open_services
from .gateways import bare

COMPACTION = choose_profile("newest").compaction
USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "ping"}]}


@pytest.fixture
def services(tmp_path, request):
    """With the profile of the newest version, or of the version that a test asks for."""
    opened = open_services(tmp_path, FLOWAY_CODEX_PROFILE=getattr(request, "param", "newest"))
    yield opened
    opened.database.close_all()


@pytest.fixture
def body(prepared):
    def make(**given):
        return prepared({"model": "gpt-5.5", "input": [USER], **given}).body

    return make


def test_the_smallest_request(body):
    made = body(input="ping")
    assert bare(made["input"]) == [USER]
    assert (made["store"], made["stream"]) == (False, True)
    assert made["include"] == ["reasoning.encrypted_content"]
    assert (made["tool_choice"], made["parallel_tool_calls"]) == ("auto", True)
    assert list(made) == [
        "model",
        "stream",
        "input",
        "tool_choice",
        "parallel_tool_calls",
        "store",
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


@pytest.mark.parametrize("services", ["0.142.0"], indirect=True)
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


@pytest.mark.parametrize("given", [{}, {"instructions": None}, {"instructions": ""}])
def test_newer_versions_need_no_instructions(body, given):
    made = body(**given)
    assert "instructions" not in made and bare(made["input"]) == [USER]


def test_newer_versions_have_instructions_in_a_message(body):
    made = body(instructions="Mine.")
    instructions = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Mine."}]}
    assert "instructions" not in made and bare(made["input"]) == [instructions, USER]
    assert body(instructions=7)["instructions"] == 7


def test_turn_metadata_of_a_wrong_type_is_ignored(prepared):
    wrong = {"request_kind": 5, "sandbox": ["x"], "turn_started_at_unix_ms": True, "workspaces": "x", "turn_id": {},
             "compaction": [], "subagent_kind": 1, "other": 1}  # fmt: skip
    made = json.loads(prepared(headers={"x-codex-turn-metadata": json.dumps(wrong)}).headers["x-codex-turn-metadata"])
    assert (made["request_kind"], made["sandbox"], made["other"]) == ("turn", "seccomp", 1)
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
    assert bare(sent.body["input"]) == [USER] and "tools" not in sent.body
    assert "x-openai-internal-codex-responses-lite" not in prepared().headers


def test_tools_and_instructions_lead_the_input_of_a_responses_lite_model(lite):
    sent = lite(tools=[FUNCTION, {"type": "web_search"}], instructions="Mine.", parallel_tool_calls=True,
                reasoning={"effort": "low"}, tool_choice="auto").body  # fmt: skip
    instructions = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Mine."}]}
    assert bare(sent["input"]) == [LEADING_TOOLS, instructions, USER]
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
    assert body(tools=[refused])["tool_choice"] == "auto"


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
        assert bare(body(input=[name, USER])["input"]) == [USER]
    whole = {**reasoning, "encrypted_content": "sealed"}
    assert body(input=[whole, USER])["input"][0] == {**whole, "content": None}


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
    assert bare(sent.body["input"]) == [USER, TRIGGER]
    assert list(metadata)[-1] == "compaction"


def test_a_turn_is_no_compaction(prepared):
    metadata = json.loads(prepared().headers["x-codex-turn-metadata"])
    assert metadata["request_kind"] == "turn" and "compaction" not in metadata


# -------------------------------------------------------------------------------------------------------------- other
def test_a_session_that_is_too_long_for_a_cache_key_has_one_of_its_own(prepared):
    long, other = ("s" * length for length in (65, 66))
    keys = [prepared(headers={"session-id": one}).body["prompt_cache_key"] for one in (long, long, other)]
    assert keys[0] == keys[1] != keys[2] and re.fullmatch(UUID7, keys[0])
    assert prepared(headers={"session-id": "s" * 64}).body["prompt_cache_key"] == "s" * 64


def test_client_metadata_is_in_a_random_order_as_in_the_cli(body):
    assert len({tuple(body()["client_metadata"]) for _ in range(50)}) > 1


@pytest.mark.parametrize("given", [None, "mine"])
def test_a_stated_prompt_cache_key_is_kept(body, given):
    assert body(prompt_cache_key=given)["prompt_cache_key"] == given


def test_the_prompt_cache_key_is_the_session(prepared):
    assert prepared(headers={"session-id": "s", "thread-id": "t"}).body["prompt_cache_key"] == "s"


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
    made, message = body(input=[item, USER])["input"]
    assert bare([made, message]) == bare([item, USER])
    assert made.get("id") == item["id"] if kept else made.get("id") is None or made["id"] != item["id"]


@pytest.mark.parametrize("given", [None, 5, {"role": "user"}, [1, "x"]])
def test_malformed_input_is_left_to_the_backend(body, given):
    made = body(input=given)["input"]
    assert made == given or bare(made[:1]) == given


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


# ------------------------------------------------------------------------------------------------------- the CLI's form
UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
CONVERSATION = [
    {"role": "user", "content": "Add 1 and 2."},
    {"call_id": "call_1", "arguments": "{}", "name": "add", "type": "function_call"},
    {"output": "3", "call_id": "call_1", "type": "function_call_output"},
    {"content": "3", "role": "assistant"},
    {"role": "user", "content": "Thanks."},
]
FORMS = {
    "message user": (["type", "id", "role", "content"], f"msg_{UUID7}"),
    "message developer": (["type", "id", "role", "content"], f"msg_{UUID7}"),
    "message assistant": (["type", "status", "id", "role", "content"], "msg_[0-9a-f]{50}"),
    "function_call": (["type", "status", "id", "name", "arguments", "call_id"], "fc_[0-9a-f]{50}"),
    "function_call_output": (["type", "id", "call_id", "output"], f"fco_{UUID7}"),
    "additional_tools": (["type", "id", "role", "tools"], f"at_{UUID7}"),
}


def check_forms(items):
    for item in items:
        keys, pattern = FORMS[item_kind(item)]
        assert list(item) == keys and re.fullmatch(pattern, item["id"]), item
        assert item.get("status", "completed") == "completed"
        for part in item["content"] if item["type"] == "message" else ():
            assert list(part) == ["type", "text", *["annotations"] * (item["role"] == "assistant")]
    assert len({item["id"] for item in items}) == len(items)


def test_items_have_the_keys_and_ids_of_the_clis(lite):
    sent = lite(tools=[FUNCTION], instructions="Mine.", input=CONVERSATION).body
    check_forms(sent["input"])
    assert [item_kind(item) for item in sent["input"][:2]] == ["additional_tools", "message developer"]


def test_ids_stay_the_same_while_the_conversation_grows(body):
    whole = body(input=CONVERSATION, instructions="Mine.")["input"]
    for length in (1, 3, 4):
        made = body(input=CONVERSATION[:length], instructions="Mine.")["input"]
        assert made == whole[: length + 1]
    assert body(input=CONVERSATION, instructions="Yours.")["input"][1]["id"] != whole[1]["id"]  # another session


@pytest.mark.parametrize("services", ["0.142.0"], indirect=True)
def test_older_versions_have_no_ids(body):
    part = {"type": "output_text", "annotations": [], "text": "Hi"}
    answer = {"role": "assistant", "content": [part], "status": "completed"}
    made = body(input=[{**USER, "id": "msg_1"}, answer])["input"]
    assert [list(item) for item in made] == [["type", "role", "content"]] * 2
    assert list(made[1]["content"][0]) == ["type", "text"]


def test_reasoning_has_the_content_that_the_clis_has(body):
    thought = {"type": "reasoning", "encrypted_content": "sealed", "summary": [], "id": "rs_1"}
    (made,) = body(input=[thought])["input"]
    assert list(made.items()) == [("type", "reasoning"), ("id", "rs_1"), ("summary", []), ("content", None),
                                  ("encrypted_content", "sealed")]  # fmt: skip


def test_fields_that_the_cli_always_sends_are_those_of_the_model(lite, provider, upstream, network):
    entry = {"default_reasoning_level": "low", "support_verbosity": True, "default_verbosity": "medium"}
    network.replace("GET", MODELS_URL, json={"models": [{"slug": "sol", "use_responses_lite": True, **entry}]})
    provider.fetch_models(upstream)
    sent = lite()
    assert (sent.body["reasoning"], sent.body["text"]) == (
        {"effort": "low", "context": "all_turns"},
        {"verbosity": "medium"},
    )
    assert json.loads(sent.headers["x-codex-turn-metadata"])["reasoning_effort"] == "low"
    asked = lite(reasoning={"summary": "auto", "effort": "high"}, text={"format": {"type": "text"}}).body
    assert list(asked["reasoning"].items()) == [("effort", "high"), ("summary", "auto"), ("context", "all_turns")]
    assert list(asked["text"]) == ["verbosity", "format"]
