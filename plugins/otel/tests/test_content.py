"""Texts of conversations in spans: only if the operator wants it, as the conventions have them, and within a limit."""

import json

import pytest
from floway_otel.content import input_attributes, output_attributes

from floway_core.testing import ApiClient, FakeUpstream, Reply, items_stream, message_item, message_stream
from floway_core.testing.events import function_call_item

from .collector import Collector
from .conftest import open_gateway

TEXT, SECRET = "What is the weather in Paris?", "The key is 42."
INPUT, OUTPUT, SYSTEM = "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"
ITEMS = [
    {"role": "developer", "content": "Be brief."},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": TEXT}, {"type": "input_image"}]},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "x" * 5000},
    {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"at": "Paris"}'},
    {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "Rain."}]},
    {"type": "item_of_tomorrow", "secret": "y"},
    "no item",
]
MESSAGES = [
    {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
    {"role": "user", "parts": [{"type": "text", "content": TEXT}, {"type": "input_image"}]},
    {"role": "assistant", "parts": [{"type": "reasoning", "content": "Hm."}]},
    {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"at": "Paris"}'}],
    },
    {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "id": "c1", "response": [{"type": "text", "content": "Rain."}]}],
    },
    {"role": "assistant", "parts": [{"type": "item_of_tomorrow"}]},
]


def test_messages():
    attributes = input_attributes({"input": ITEMS, "instructions": "Speak French."}, 10_000)
    assert json.loads(attributes[INPUT]) == MESSAGES
    assert json.loads(attributes[SYSTEM]) == [{"type": "text", "content": "Speak French."}]
    answer = output_attributes([message_item("Hello."), ITEMS[3]], "tool_call", 10_000)
    assert json.loads(answer[OUTPUT]) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "Hello."}, *MESSAGES[3]["parts"]],
            "finish_reason": "tool_call",
        }
    ]
    assert output_attributes([], "stop", 10_000) == {}


LONG = [
    {"role": "user", "content": '\u6f22\U0001f600\n"quoted"\x00' * 500},
    {
        "role": "user",
        "content": [{"type": "input_text", "text": "a" * 3000}, {"type": "input_text", "text": "b" * 3000}],
    },
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "\\" * 3000},
]


@pytest.mark.parametrize("limit", [1, 40, 100, 150, 200, 333, 1000, 4000, 8000, 50_000])
def test_a_limit_holds_and_keeps_the_newest(limit):
    for count in range(1, 4):
        items = [*ITEMS[:2], *LONG[:count]]
        for attributes in (
            input_attributes({"input": items, "instructions": LONG[0]["content"]}, limit),
            output_attributes(items, "stop", limit),
        ):
            for text in attributes.values():
                assert isinstance(json.loads(text), list)
                assert len(text.encode()) <= max(limit, len('[{"role":"assistant","parts":[],"finish_reason":"stop"}]'))
    kept = json.loads(input_attributes({"input": LONG[:2]}, 2000)[INPUT])
    assert [part["content"][:5] for part in kept[-1]["parts"]] == ["aaaaa", "bbbbb"]
    assert all(part["content"].endswith("a...") or part["content"].endswith("b...") for part in kept[-1]["parts"])


@pytest.mark.parametrize("content", ["on", "off"])
def test_the_setting_decides(content):
    settings = {"otel_content": content, "otel_max_content_bytes": "300", "graceful_timeout": "20"}
    with Collector() as collector, FakeUpstream() as upstream:
        upstreams = [("openai", "first", upstream.url, "model-1")]
        with open_gateway(collector, upstreams, settings) as gateway:
            client = ApiClient(gateway.url, gateway.key)
            call = function_call_item("look", '{"secret": "7"}')
            upstream.script(Reply(items_stream([call])), Reply(message_stream(SECRET)))
            first = client.create(TEXT, instructions="Be brief.").json()
            output = {"type": "function_call_output", "call_id": "call_1", "output": "It rains."}
            answer = client.stream([output], previous_response_id=first["id"])
            assert answer.body
            attempt, request = collector.spans_of(answer)
            received = b"".join(body for _, _, body in collector.requests)
            log = gateway.log
    found = attempt["attributes"]
    assert not {INPUT, OUTPUT, SYSTEM} & request["attributes"].keys()
    assert TEXT not in log and SECRET not in log
    if content == "off":
        assert not {INPUT, OUTPUT, SYSTEM} & found.keys()
        assert not any(text.encode() in received for text in (TEXT, SECRET, "It rains.", "secret", "Be brief."))
        return
    assert json.loads(found[OUTPUT])[0]["parts"] == [{"type": "text", "content": SECRET}]
    messages = json.loads(found[INPUT])
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert messages[2]["parts"][0]["response"] == "It rains." and len(found[INPUT]) <= 300
