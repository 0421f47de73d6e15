"""What clients of the API send and the backend refuses reaches it in a form that it takes."""

import json
from typing import Any

import pytest
from floway_codex.simulator import Simulator, compaction, function_call, reply, text

from floway_core.testing import ApiClient

from . import gateways
from .gateways import MODEL, bare

USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object", "default": None}}
CLI = {
    "originator": "codex_exec",
    "user-agent": "codex_exec/0.142.0 (Debian 12.0.0; x86_64) xterm (codex_exec; 0.142.0)",
}


@pytest.fixture(scope="module")
def backend():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def client(backend):
    with gateways.start(backend) as gateway:
        gateways.import_account(gateway, backend.new_account())
        yield gateways.caller(gateway)


@pytest.fixture
def arrived(backend: Simulator, client: ApiClient):
    """Sends a request and gives the body that the backend accepted."""

    def send(input: Any = "hi", model: str = MODEL, headers: dict[str, str] | None = None, **fields: Any):
        backend.clear()
        content = json.dumps({"model": model, "input": input, **fields}).encode()
        exchange = client.send(
            "POST", "/v1/responses", content, {"content-type": "application/json", **(headers or {})}
        )
        assert exchange.status == 200, exchange.body
        (dispatch,) = backend.dispatches
        return dispatch.body

    return send


def message(role: str, kind: str, said: str = "hi", **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": kind, "text": said}], **more}


# ---------------------------------------------------------------------------------------------------------- fields
@pytest.mark.parametrize("client_headers", [{}, CLI], ids=["other", "cli"])
@pytest.mark.parametrize(
    "tier, sent",
    [
        ("auto", None),
        ("default", None),
        ("flex", None),
        ("scale", None),
        ("fast", "priority"),
        ("priority", "priority"),
    ],
)
def test_service_tiers(arrived, tier, sent, client_headers):
    body = arrived(service_tier=tier, headers=client_headers)
    assert body.get("service_tier") == sent and ("service_tier" in body) == (sent is not None)


def test_a_tier_of_no_kind_is_refused_by_the_backend(client, backend):
    backend.clear()
    exchange = client.create("hi", model=MODEL, service_tier="warp")
    assert (exchange.status, exchange.json()["error"]["message"]) == (400, "Unsupported service_tier: warp")


@pytest.mark.parametrize(
    "effort, sent", [("none", "low"), ("minimal", "low"), ("low", "low"), ("high", "high"), ("max", "xhigh")]
)
def test_the_nearest_effort_that_the_model_has(arrived, effort, sent):
    assert arrived(reasoning={"effort": effort})["reasoning"] == {"effort": sent}


NULLS = ("include", "instructions", "parallel_tool_calls", "reasoning", "service_tier", "text", "tool_choice", "tools")


def test_nulls_of_sdks_are_left_out(arrived):
    body = arrived(**dict.fromkeys(NULLS))
    assert body["include"] == ["reasoning.encrypted_content"]
    assert all(body.get(name, "left out") is not None for name in NULLS if name != "prompt_cache_key")
    inner = arrived(
        reasoning={"effort": None, "summary": "none"},
        text={"format": None, "verbosity": "low"},
        tools=[{**FUNCTION, "strict": None, "description": None}],
    )
    assert inner["reasoning"] == {"effort": "medium"} and inner["text"] == {"verbosity": "low"}
    assert inner["tools"] == [FUNCTION]  # the null in its schema is the client's


def test_what_cannot_be_included_is_not_asked_for(arrived):
    asked = ["file_search_call.results", "message.output_text.logprobs", "web_search_call.action.sources"]
    assert arrived(include=asked)["include"] == ["web_search_call.action.sources", "reasoning.encrypted_content"]


@pytest.mark.parametrize(
    "tools, choice, sent_tools, sent_choice",
    [
        ([{"type": "web_search_preview"}, FUNCTION], "auto", [{"type": "web_search"}, FUNCTION], "auto"),
        (
            [{"type": "web_search_preview_2025_03_11", "search_context_size": "low"}],
            {"type": "web_search_preview"},
            [{"type": "web_search", "search_context_size": "low"}],
            "auto",
        ),
        ([{"type": "image_generation"}], {"type": "image_generation"}, [{"type": "image_generation"}], "auto"),
        ([FUNCTION], {"type": "function", "name": "f"}, [FUNCTION], {"type": "function", "name": "f"}),
        (
            [{"type": "mcp", "server_label": "m"}, FUNCTION],
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}, {"type": "function", "name": "f"}]},
            [FUNCTION],
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        ),
        ([FUNCTION], {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}, [FUNCTION], "auto"),
    ],
)
def test_tools_and_the_choice_of_one(arrived, tools, choice, sent_tools, sent_choice):
    body = arrived(tools=tools, tool_choice=choice)
    assert (body["tools"], body["tool_choice"]) == (sent_tools, sent_choice)


# ----------------------------------------------------------------------------------------------------------- items
@pytest.mark.parametrize(
    "given, sent",
    [
        ({"role": "user", "content": "hi"}, USER),
        ({"type": None, "role": "user", "content": "hi", "id": None, "status": None}, USER),
        ({"role": "system", "content": "hi"}, message("developer", "input_text")),
        ({"role": "developer", "content": "hi"}, message("developer", "input_text")),
        ({"role": "assistant", "content": "hi"}, message("assistant", "output_text")),
        (message("assistant", "input_text"), message("assistant", "output_text")),
        (message("assistant", "text"), message("assistant", "output_text")),
        (message("user", "output_text"), USER),
        (message("user", "text"), USER),
        (
            {"role": "user", "content": [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": None}]},
            USER,
        ),
        (
            {
                "role": "assistant",
                "content": [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}],
                "phase": None,
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "hi", "annotations": []}],
            },
        ),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png", "file_id": None}]},
            {**USER, "content": [{"type": "input_image", "image_url": "https://x/y.png"}]},
        ),
        (
            {
                "type": "reasoning",
                "id": "rs_1",
                "status": None,
                "summary": [],
                "encrypted_content": "sealed",
                "content": [{"type": "reasoning_text", "text": "Hm."}],
            },
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
        ),
        (
            {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "x", "sources": None}},
            {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "x"}},
        ),
    ],
)
def test_items_become_those_that_the_cli_sends(arrived, given, sent):
    found = arrived([given, {"role": "user", "content": "go on"}])["input"]
    assert bare(found) == bare([sent, message("user", "input_text", "go on")])
    assert "id" not in sent or found[0]["id"] == sent["id"]


def test_reasoning_without_its_content_is_left_out(arrived):
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    found = arrived([thought, {**thought, "encrypted_content": ""}, {**thought, "id": "rs_gone"}, USER])["input"]
    assert bare(found) == [USER]


def test_no_id_stands_twice(arrived):
    """Some upstreams number from one in each answer."""
    history = [USER, message("assistant", "output_text", "a", id="msg_1"), USER,
               message("assistant", "output_text", "b", id="msg_1"), USER]  # fmt: skip
    sent = arrived(history)["input"]
    assert sent[1]["id"] == "msg_1" and len({item["id"] for item in sent}) == len(sent)
    assert [item["content"][0]["text"] for item in sent] == ["hi", "a", "hi", "b", "hi"]


def call(call_id: str, **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}", **more}


def output(call_id: str, said: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": said}


def test_calls_and_outputs_stay_together_whatever_their_ids(arrived):
    odd = ["functions.f:0", "x" * 65, "", "call_ä", "call_1"]
    sent = arrived([part for one in odd for part in (call(one, id="fc_" + "y" * 70, status=None), output(one))])
    ids = [item["call_id"] for item in sent["input"]]
    assert ids[0::2] == ids[1::2] and len({*ids}) == len(odd) and ids[-1] == "call_1"
    assert all(len(one) <= 64 for one in ids) and not any("y" * 70 in item["id"] for item in sent["input"])


def test_a_call_id_that_is_used_again_is_another_one(arrived):
    """The same history gets the same ids when it has grown."""
    history = [call("call_0"), output("call_0", "a"), USER, call("call_0"), output("call_0", "b")]
    first = arrived(history)["input"]
    ids = [item.get("call_id") for item in first]
    assert ids[0] == ids[1] == "call_0" and ids[3] == ids[4] != "call_0" and len(ids[3]) <= 64
    again = arrived([*history, USER, call("call_0"), output("call_0", "c")])["input"]
    assert again[:5] == first and again[6]["call_id"] == again[7]["call_id"] not in ids


def test_calls_side_by_side_keep_their_ids(arrived):
    history = [call("call_0"), call("call_1"), output("call_1"), output("call_0"), output("call_0", "once more")]
    assert bare(arrived(history)["input"]) == history


def test_parts_of_outputs_are_parts_of_input(arrived):
    parts = [
        {"type": "output_text", "text": "done", "annotations": [], "logprobs": None},
        {"type": "text", "text": "!"},
    ]
    sent = arrived([call("call_1"), output("call_1", parts)])["input"][1]["output"]
    assert sent == [{"type": "input_text", "text": "done"}, {"type": "input_text", "text": "!"}]


@pytest.mark.parametrize("model", [MODEL, "gpt-6.1-sol"])
def test_a_stored_conversation_of_an_sdk_goes_on(backend, client, model):
    """Easy messages, a tool loop, what SDKs write when they send items back, and a compaction."""
    backend.clear()
    backend.script(reply(function_call("f", {})), reply(text("a")), reply(text("b")), reply(compaction()))
    settings = {"model": model, "tools": [FUNCTION], "service_tier": "auto", "metadata": {"a": "b"}}
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    first = client.create(asked, **settings).json()
    called = next(item for item in first["output"] if item["type"] == "function_call")
    answered = output(called["call_id"]) | {"id": None, "status": None}
    second = client.create([*asked, *first["output"], answered], **settings).json()
    third = client.create([{"role": "user", "content": "more"}], previous_response_id=second["id"], **settings).json()
    exchange = client.post({"model": model, "previous_response_id": third["id"]}, "/v1/responses/compact")
    assert exchange.status == 200, exchange.body
    assert [one.status for one in backend.dispatches] == [200] * 4 and backend.findings == []
