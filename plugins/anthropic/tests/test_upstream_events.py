"""Translating streams of upstreams with the Messages API to events of the Responses API, and back again."""

import json

import pytest
from floway_anthropic.client.events import MessageEvents
from floway_anthropic.client.view import ClientView
from floway_anthropic.upstream.events import ResponseEvents
from floway_anthropic.upstream.history import convert_items, decode_thinking
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.testing.events import parse

from .test_events import accumulate
from .test_events import parse as parse_messages
from .wire import call, event, events, say, think

EVENTS = TypeAdapter(ResponseStreamEvent)


def translate(stream, **options):
    """Translate event by event, and all at once; return the events, which are valid and numbered."""
    single, block = ResponseEvents("claude-test", **options), ResponseEvents("claude-test", **options)
    pieces = [single.feed(one) for one in stream] + [single.end()]
    received = block.feed(b"".join(stream))
    assert len(parse(b"".join(pieces))) == len(parse(received))
    made = parse(received)
    for one in made:
        if one["type"] != "response.failed":  # its code is the upstream's, and not one of OpenAI's
            EVENTS.validate_python(one)
    assert [one["sequence_number"] for one in made] == list(range(len(made)))
    follower = ResponseAccumulator({}, "claude-test")
    assert follower.add_events(received) + (follower.terminal_event or b"") == received, "core has nothing to mend"
    return made


def response_of(made):
    response = made[-1]["response"]
    Response.model_validate(response)
    return response


def test_text_thinking_and_calls():
    blocks = [think("Let me see."), say("I call."), call("f", {"a": [1, "\u00fc"]}), call("g", {}, id="toolu_2")]
    made = translate(events(*blocks))
    response = response_of(made)
    assert made[-1]["type"] == "response.completed"
    reasoning, message, first, second = response["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Let me see."}]
    assert decode_thinking(reasoning["encrypted_content"]) == blocks[0]
    assert message["content"][0]["text"] == "I call."
    assert [json.loads(item["arguments"]) for item in (first, second)] == [{"a": [1, "\u00fc"]}, {}]
    assert (first["call_id"], second["call_id"], second["name"]) == ("toolu_1", "toolu_2", "g")
    assert response["usage"] == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 75, "cache_write_tokens": 5},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 110,
    }
    assert response["service_tier"] == "default"


def test_the_upstream_reads_its_thinking_again():
    blocks = [
        think("Hm."),
        {"type": "redacted_thinking", "data": "opaque"},
        think("", "only-signed"),
        call("f", {"a": 1}),
    ]
    output = response_of(translate(events(*blocks)))["output"]
    result = {"type": "function_call_output", "call_id": "toolu_1", "output": "42"}
    conversation = convert_items(None, [{"role": "user", "content": "Hi"}, *output, result])
    assert conversation.messages[1] == {"role": "assistant", "content": blocks}


def test_text_in_several_blocks_with_citations():
    cited = {"type": "web_search_result_location", "url": "https://a.example/", "title": "A", "cited_text": "x"}
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "floway"}}
    found = {"type": "web_search_result", "url": "https://a.example/", "title": "A", "encrypted_content": "e"}
    result = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [found]}
    blocks = [use, result, say("It is "), {**say("a gateway"), "citations": [cited]}, say(".")]
    search, message = response_of(translate(events(*blocks)))["output"]
    assert search["action"]["query"] == "floway" and search["action"]["sources"][0]["url"] == "https://a.example/"
    (part,) = message["content"]
    (annotation,) = part["annotations"]
    assert part["text"] == "It is a gateway."
    assert part["text"][annotation["start_index"] : annotation["end_index"]] == "a gateway"


def test_a_freeform_tool():
    made = translate(events(call("patch", {"input": "*** Begin\n"})), custom_tools={"patch"})
    (item,) = response_of(made)["output"]
    assert (item["type"], item["input"]) == ("custom_tool_call", "*** Begin\n")


@pytest.mark.parametrize(
    ("reason", "status", "incomplete"),
    [
        ("end_turn", "completed", None),
        ("stop_sequence", "completed", None),
        ("max_tokens", "incomplete", "max_output_tokens"),
        ("model_context_window_exceeded", "incomplete", "max_output_tokens"),
        ("refusal", "incomplete", "content_filter"),
    ],
)
def test_why_it_stopped(reason, status, incomplete):
    response = response_of(translate(events(say("Text."), stop_reason=reason)))
    assert response["status"] == status
    assert (response.get("incomplete_details") or {}).get("reason") == incomplete


def test_a_refusal_tells_its_reason():
    details = {"type": "refusal", "category": "cyber", "explanation": "No."}
    (message,) = response_of(translate(events(stop_reason="refusal", stop_details=details)))["output"]
    assert message["content"] == [{"type": "refusal", "refusal": "No."}]


def test_blocks_that_begin_with_text():
    cited = {"type": "web_search_result_location", "url": "https://a.example/", "title": "A", "cited_text": "x"}
    stream = [
        *events()[:2],
        event("content_block_start", index=2, content_block=think("Let me ", "")),
        event("content_block_delta", index=2, delta={"type": "thinking_delta", "thinking": "see."}),
        event("content_block_delta", index=2, delta={"type": "signature_delta", "signature": "signed"}),
        event("content_block_stop", index=2),
        event("content_block_start", index=5, content_block=say("It is ")),
        event("content_block_delta", index=5, delta={"type": "text_delta", "text": "so."}),
        event("content_block_delta", index=5, delta={"type": "citations_delta", "citation": cited}),
        event("content_block_stop", index=5),
        *events()[-2:],
    ]
    reasoning, message = response_of(translate(stream))["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Let me see."}]
    assert decode_thinking(reasoning["encrypted_content"]) == think("Let me see.", "signed")
    (part,) = message["content"]
    assert (part["text"], part["annotations"][0]["start_index"]) == ("It is so.", 0)


def test_an_error_within_the_stream():
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    made = translate([*events(say("Half"))[:4], error])
    assert made[-1]["type"] == "response.failed"
    assert made[-1]["response"]["error"] == {"code": "overloaded_error", "message": "Overloaded"}


def test_a_stream_that_breaks_is_not_complete():
    made = translate(events(say("Half"), call("f", {"a": 1}))[:-2])
    assert not made[-1]["type"].startswith(("response.completed", "response.incomplete", "response.failed"))


def test_there_and_back_again():
    """What a client of the Messages API gets of an upstream of the Messages API, if it is not passed through."""
    blocks = [think("Hm."), say("I call."), call("f", {"a": 1})]
    pivot = ResponseEvents("claude-test").feed(b"".join(events(*blocks)))
    message = accumulate(parse_messages(MessageEvents(ClientView("m"), "r").feed(pivot)))
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert message["content"][1:] == blocks[1:] and message["content"][0]["thinking"] == "Hm."
    assert (message["stop_reason"], message["usage"]["cache_read_input_tokens"]) == ("tool_use", 75)
