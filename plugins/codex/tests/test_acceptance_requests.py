"""Every promise about bodies, models and refusals, through a running gateway: what the backend gets, what comes back.

Rows are named as in the table of ``test_acceptance.py``.
"""

import json

import pytest
from floway_codex.simulator import compaction, function_call, refusal, reply, text

from . import gateways
from .gateways import bare, ids, user

LEFT_OUT = object()
INCLUDED = ["reasoning.encrypted_content"]
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
CUSTOM = {"type": "custom", "name": "g"}
DEVELOPER = {**user("You are."), "role": "developer"}
TUNING = {
    "temperature": 0.5, "top_p": 0.5, "max_output_tokens": 5, "frequency_penalty": 1, "presence_penalty": 1,
    "user": "u", "metadata": {"a": "b"}, "prompt_cache_retention": "24h", "safety_identifier": "s",
    "stream_options": {"include_obfuscation": False}, "truncation": "auto", "max_tool_calls": 5, "top_logprobs": 1,
}  # fmt: skip

# row: what the client sends, what the backend gets of it
ROWS = {
    "TX-7 nothing said": ({}, {"store": False, "stream": True}),
    "TX-7 store and stream": ({"store": True, "stream": False}, {"store": False, "stream": True}),
    "TX-7 as null": ({"store": None, "stream": None}, {"store": False, "stream": True}),
    "TX-13 a cache key": ({"prompt_cache_key": "mine"}, {"prompt_cache_key": "mine"}),
    "TX-13 none, stated": ({"prompt_cache_key": None}, {"prompt_cache_key": None}),
    "IN-1 no instructions": ({}, {"instructions": LEFT_OUT, "input": [user("Hi")]}),
    "IN-1 null": ({"instructions": None}, {"instructions": LEFT_OUT, "input": [user("Hi")]}),
    "IN-2 empty": ({"instructions": ""}, {"instructions": LEFT_OUT, "input": [user("Hi")]}),
    "IN-3 the client's": (
        {"instructions": "Be brief."},
        {"instructions": LEFT_OUT, "input": [{**user("Be brief."), "role": "developer"}, user("Hi")]},
    ),
    "IN-4 system messages": (
        {"input": [{**DEVELOPER, "role": "system"}, user("Hi")]},
        {"instructions": LEFT_OUT, "input": [DEVELOPER, user("Hi")]},
    ),
    "IN-5 all that tunes": (TUNING, dict.fromkeys(TUNING, LEFT_OUT)),
    **{f"IN-5 {name}": ({name: value}, {name: LEFT_OUT}) for name, value in TUNING.items()},
    "IN-6 what is supported": (
        wanted := {"reasoning": {"effort": "low"}, "text": {"verbosity": "low"}, "tools": [FUNCTION, CUSTOM],
                   "tool_choice": "auto", "parallel_tool_calls": True, "include": INCLUDED},
        wanted,
    ),
    "IN-7 nothing to leave out": ({"input": [user("Hi")]}, {"input": [user("Hi")]}),
    "what SDKs write out": ({"temperature": None, "background": False, "prompt": None, "conversation": None},
                            dict.fromkeys(("temperature", "background", "prompt", "conversation"), LEFT_OUT)),
    "encrypted reasoning": ({"include": []}, {"include": INCLUDED}),
    "encrypted reasoning, null": ({"include": None}, {"include": INCLUDED}),
    "tools that there are not": (
        {"tools": [FUNCTION, *({"type": kind} for kind in ("file_search", "code_interpreter", "mcp", "computer"))]},
        {"tools": [FUNCTION]},
    ),
    "a choice of what there is not": (
        {"tools": [FUNCTION, {"type": "file_search"}], "tool_choice": {"type": "file_search"}},
        {"tools": [FUNCTION], "tool_choice": "auto"},
    ),
    "NA-3 a user's text": ({"input": [user("Hi")]}, {"input": [user("Hi")]}),
    "NA-6 a text as input": ({"input": "Hi"}, {"input": [user("Hi")]}),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_what_the_backend_gets(front, row):
    given, expected = ROWS[row]
    body = front.sent(**given).body
    body["input"] = bare(body["input"])
    assert {name: body.get(name, LEFT_OUT) for name in expected} == expected


def test_the_cache_key_is_the_session(front):
    """TX-13"""
    request = front.sent({"session-id": "s", "thread-id": "t"})
    assert request.body["prompt_cache_key"] == ids(request)["session"] == "s"


MESSAGE = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]}
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "1"}
REASONING = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
# row: an item, an id for it, whether it arrives with it
ITEM_IDS = {
    "a good one": (MESSAGE, "msg_1", True), "of another type": (MESSAGE, "rs_1", False),
    "too long": (MESSAGE, "msg_" + "x" * 61, False), "the longest": (MESSAGE, "msg_" + "x" * 60, True),
    "odd characters": (MESSAGE, "msg_a.b", False), "a call": (CALL, "fc_1", True),
    "a call's, wrong": (CALL, "c1", False),
    "an output": (OUTPUT, "fco_1", True), "an output's, wrong": (OUTPUT, "fc_1", False), "empty": (MESSAGE, "", False),
    "reasoning": (REASONING, "rs_1", True), "reasoning's, wrong": (REASONING, "msg_1", False),
}  # fmt: skip


@pytest.mark.parametrize("row", ITEM_IDS)
def test_item_ids_that_would_be_refused_are_left_out_and_the_item_stays(front, row):
    """X-22: in its place, with its content."""
    item, value, stays = ITEM_IDS[row]
    items = [user("a"), REASONING, CALL, OUTPUT, MESSAGE, user("b")]
    place = items.index(item)
    given = [*items[:place], {**item, "id": value}, *items[place + 1 :]]
    sent = front.sent(input=given, store=False).body["input"]
    assert bare(sent) == items and (sent[place].get("id") == value) == stays


@pytest.mark.parametrize("value", ["x" * 65, "call.1", "call 1", "é", "functions.f:0"])
def test_call_ids_that_would_be_refused_are_replaced_in_call_and_output(front, value):
    items = [user("a"), {**CALL, "call_id": value}, {**OUTPUT, "call_id": value}]
    _, call, output = front.sent(input=items, store=False).body["input"]
    assert call["call_id"] == output["call_id"] != value and call["call_id"].isascii() and len(call["call_id"]) <= 64


def test_a_responses_lite_model_gets_its_form(front):
    given = {"model": "gpt-6.1-sol", "instructions": "Be brief.", "tools": [FUNCTION], "input": [user("Hi")]}
    request = front.sent(**given)
    assert request.header("x-openai-internal-codex-responses-lite") == "true"
    assert bare(request.body["input"]) == [
        {"type": "additional_tools", "role": "developer", "tools": [FUNCTION]},
        {**user("Be brief."), "role": "developer"},
        user("Hi"),
    ]
    assert not {"instructions", "tools"} & request.body.keys() and request.body["parallel_tool_calls"] is False


@pytest.mark.parametrize("name, value", [("made_up", 1), ("prompt_cache", "x"), ("context_management", [])])
def test_anything_else_that_the_backend_refuses_is_its_refusal(front, name, value):
    answer = front.send({"input": "Hi", name: value})
    assert answer.status == 400 and f"Unsupported parameter: {name}" in answer.json()["error"]["message"]


# ----------------------------------------------------------------------------------------------------------- refusals
NO = {"error": {"message": "No.", "type": "t", "param": None, "code": "c"}}
PATHS = [
    "/v1/responses",
    "/backend-api/codex/responses",
    "/v1/responses/compact",
    "/backend-api/codex/responses/compact",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 500, 502, 503])
def test_a_refusal_is_relayed_and_changes_nothing(front, path, status):
    """TX-25, TX-26, TC-5, TC-6"""
    before = gateways.run_sql(f"sqlite:///{front.gateway.database}", STATE)
    front.simulator.script(refusal(status, NO, {"retry-after": "7"}))
    answer = front.send({"input": "Hi"}, path=path)
    assert (answer.status, answer.json()["error"]["message"], answer.headers["retry-after"]) == (status, "No.", "7")
    assert gateways.run_sql(f"sqlite:///{front.gateway.database}", STATE) == before
    assert len(front.simulator.dispatches) == 1


STATE = "SELECT state, message, access_token FROM codex_health JOIN codex_tokens USING (upstream_id)"


@pytest.mark.parametrize("path", PATHS[2:])
def test_a_compaction(front, path):
    """TC-1, HT-3: sent as a turn, answered as a compaction."""
    front.simulator.script(reply(compaction("gAAAAsealed"), total_tokens=9))
    answer = front.ask(path=path, input=[user("Hi")], temperature=1)
    (request,) = front.simulator.dispatches
    assert request.path == "/backend-api/codex/responses" and request.header("accept") == "text/event-stream"
    assert bare(request.body["input"]) == [user("Hi"), {"type": "compaction_trigger"}]
    metadata = json.loads(request.header("x-codex-turn-metadata"))
    assert metadata["request_kind"] == "compaction" and metadata["compaction"]["trigger"] == "manual"
    assert (answer["object"], answer["usage"]["total_tokens"]) == ("response.compaction", 9)
    assert [item["type"] for item in answer["output"]] == ["compaction"] and answer["id"].startswith("resp_")
    assert answer["output"][0]["encrypted_content"] == "gAAAAsealed"


@pytest.mark.parametrize("path", PATHS)
def test_a_401_is_answered_with_another_token_and_the_same_request(front, path):
    """TX-24, TX-32, TC-3, X-14: once, and the log counts both."""
    front.simulator.script(refusal(401, {"detail": "Unauthorized"}))
    answer = front.send({"input": [user("Hi")]}, {"session-id": "s"}, path)
    assert answer.status == 200
    one, two = front.simulator.dispatches
    assert one.body == two.body and one.header("authorization") != two.header("authorization")
    assert ids(one) == ids(two) and answer.json()["id"]
    (line,) = front.gateway.wait_for_log(answer.headers["x-request-id"])
    assert f"POST {path} 200" in line and "attempts=1 dispatches=2" in line


@pytest.mark.parametrize("path", PATHS)
def test_a_second_401_is_told(front, path):
    """TX-24: and not tried again. A client that does so does not renew a token that was never accepted."""
    refreshes = front.simulator.refreshes
    front.simulator.script(*[refusal(401, {"detail": "Unauthorized"})] * 3)
    for dispatches in (2, 3):
        assert front.send({"input": "Hi"}, path=path).status >= 400
        assert (len(front.simulator.dispatches), front.simulator.refreshes) == (dispatches, refreshes + 1)
    front.ask()


@pytest.mark.parametrize("path", PATHS)
def test_a_401_that_ends_the_sign_in_ends_the_account(front, path):
    """TX-23, TC-4: with what the backend said; it is not tried again, now or later."""
    ended = {"error": {"code": "token_invalidated", "message": "Signed out."}}
    front.simulator.script(refusal(401, ended))
    for _ in range(2):
        answer = front.send({"input": "Hi"}, path=path)
        error = answer.json()["error"]
        assert (answer.status, error["code"]) == (503, "session_terminated") and "Signed out" in error["message"]
    assert len(front.simulator.dispatches) == 1
    database = f"sqlite:///{front.gateway.database}"
    ((state, token),) = gateways.run_sql(
        database, "SELECT state, (SELECT count(*) FROM codex_tokens) FROM codex_health"
    )
    assert (state, token) == ("session_terminated", 0)
    known = next(iter(front.simulator.backend.accounts.by_id.values()))
    tokens = {**front.simulator.backend.accounts.issue(known, 3600), "account_id": known.account_id}
    gateways.import_account(front.gateway, {"tokens": tokens})
    assert front.ask(path=path)["id"]


# -------------------------------------------------------------------------------------------------------- answers
def test_the_terminal_event_holds_what_was_streamed(front):
    """X-7, X-8: the backend leaves its output empty."""
    front.simulator.script(reply(text("One."), function_call("f", {"a": 1}), text("Two."), empty_output=True))
    events = front.send({"input": "Hi", "stream": True}).events()
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["message", "function_call", "message"]
    _, call, _ = events[-1]["response"]["output"]
    output = {**OUTPUT, "call_id": call["call_id"]}
    sent = front.sent(previous_response_id=events[-1]["response"]["id"], input=[output])
    assert [item["type"] for item in sent.body["input"][1:4]] == ["message", "function_call", "message"]


def test_a_request_for_no_websocket_is_refused_so_that_the_cli_posts(front):
    """CX-8"""
    for path in ("/v1/responses", "/responses", "/backend-api/codex/responses"):
        answer = gateways.caller(front.gateway).get(path)
        assert (answer.status, answer.json()["error"]["code"]) == (426, "upgrade_refused")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/v1/images/generations"])
def test_what_is_not_served(front, path):
    """PR-9 to PR-14"""
    assert front.send({"messages": []}, path=path).status == 404 and front.simulator.requests == []


@pytest.mark.parametrize("key, status", [(None, 200), ("Bearer nonsense", 401), ("", 401)])
@pytest.mark.parametrize("path", ["/backend-api/codex/responses", "/backend-api/codex/models"])
def test_the_backends_own_paths_take_a_floway_key(front, path, key, status):
    """CX-1, CX-2, CX-3"""
    headers = {} if key is None else {"authorization": key}
    sender = gateways.caller(front.gateway)
    body = json.dumps({"model": gateways.MODEL, "input": "Hi"}).encode()
    answer = sender.send("GET" if "models" in path else "POST", path, None if "models" in path else body, headers)
    assert answer.status == status
