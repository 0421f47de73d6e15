"""Translating streams of the Responses API to those of the Messages API, checked with the types of Anthropic's SDK."""

import copy
import json

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from floway_anthropic.client.events import MessageEvents
from floway_anthropic.client.messages import to_message
from floway_anthropic.client.view import ClientView
from pydantic import TypeAdapter

from floway_core.testing.events import event, function_call_item, items_stream, message_item, message_stream, response

EVENTS = TypeAdapter(RawMessageStreamEvent)
USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 8},
    "total_tokens": 120,
}
REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}],
    "encrypted_content": "sealed",
}


def translate(stream, view=None):
    """Translate event by event, and all at once; return the events."""
    view = view or ClientView("the-model")
    single = MessageEvents(view, "req_1")
    pieces = [single.feed(one) for one in stream] + [single.end()]
    block = MessageEvents(view, "req_1")
    whole = block.feed(b"".join(stream)) + block.end()
    assert b"".join(pieces) == whole
    return parse(whole)


def parse(stream):
    events = []
    for one in stream.decode().split("\n\n")[:-1]:
        name, data = one.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


TEXTS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def accumulate(events):
    """The message that the events add up to. Each of them has to be valid, and in order."""
    message, arguments, open_index = None, "", None
    for one in copy.deepcopy(events):
        if one["type"] == "ping":
            continue
        EVENTS.validate_python(one)
        if one["type"] == "message_start":
            message = one["message"]
        elif one["type"] == "content_block_start":
            assert open_index is None and one["index"] == len(message["content"])
            open_index, arguments = one["index"], ""
            message["content"].append(one["content_block"])
        elif one["type"] == "message_delta":
            message |= {**one["delta"], "usage": one["usage"]}
        elif one["type"].startswith("content_block"):
            assert one["index"] == open_index
            block, delta = message["content"][-1], one.get("delta")
            if delta is None:
                open_index = None
                block |= {"input": json.loads(arguments)} if arguments else {}
            elif delta["type"] in TEXTS:
                block[TEXTS[delta["type"]]] += delta[TEXTS[delta["type"]]]
            elif delta["type"] == "citations_delta":
                block.setdefault("citations", []).append(delta["citation"])
            else:
                arguments += delta["partial_json"]
    assert open_index is None and events[-1]["type"] == "message_stop"
    Message.model_validate(message)
    return message


def content_of(events):
    return accumulate(events)["content"]


def whole(items, view=None, **fields):
    """The answer in one piece, validated."""
    message = to_message(response("completed", usage=USAGE, output=items, **fields), view or ClientView("the-model"))
    Message.model_validate(message)
    return message


def numbered(*events):
    made = [event("response.created", response=response())]
    return [*made, *(event(kind, **fields) for kind, fields in events)]


def completed(*items, status="completed", **fields):
    return f"response.{status}", {"response": response(status, usage=USAGE, output=list(items), **fields)}


# ---------------------------------------------------------------------------------------------------------------- text
@pytest.mark.parametrize("empty_output", [True, False])
def test_text(empty_output):
    events = translate(message_stream("Hello \u2028 \u00fc \U0001f600!", usage=USAGE, empty_output=empty_output))
    assert [one["type"] for one in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    message = accumulate(events)
    assert message["content"][0]["text"] == "Hello \u2028 \u00fc \U0001f600!"
    assert (message["model"], message["role"], message["stop_reason"]) == ("the-model", "assistant", "end_turn")
    assert message["id"] == "msg_1"
    usage = events[-2]["usage"]
    assert usage == {
        "input_tokens": 30,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 60,
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 8},
    }


def test_items_without_deltas_are_the_same_as_whole_answers():
    items = [REASONING, message_item("Text."), function_call_item("run", '{"a": [1, 2.0]}')]
    streamed = accumulate(translate(items_stream(items, usage=USAGE)))
    once = whole(items)
    assert content_of(translate(items_stream(items))) == once["content"]
    assert streamed["stop_reason"] == once["stop_reason"] == "tool_use"


def test_a_refusal():
    part = {"type": "refusal", "refusal": "No."}
    item = {**message_item(""), "content": [part]}
    at = {"output_index": 0, "content_index": 0, "item_id": "msg_1"}
    stream = numbered(
        ("response.output_item.added", {"output_index": 0, "item": {**item, "content": []}}),
        ("response.refusal.delta", {**at, "delta": "No"}),
        ("response.refusal.delta", {**at, "delta": "."}),
        ("response.refusal.done", {**at, "refusal": "No."}),
        ("response.content_part.done", {**at, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        completed(item),
    )
    message, once = accumulate(translate(stream)), whole([item])
    for one in (message, once):
        assert (one["stop_reason"], one["content"][0]["text"]) == ("refusal", "No.")
        assert one["stop_details"]["explanation"] == "No."


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("max_output_tokens", "max_tokens"),
        ("content_filter", "refusal"),
        ("pause_turn", "pause_turn"),
        (None, "max_tokens"),
    ],
)
def test_an_incomplete_answer(reason, expected):
    details = {"reason": reason} if reason else None
    stream = [
        *message_stream("Half")[:-1],
        event(
            *[completed(status="incomplete", incomplete_details=details)[0]],
            **completed(status="incomplete", incomplete_details=details)[1],
        ),
    ]
    assert accumulate(translate(stream))["stop_reason"] == expected
    assert to_message(response("incomplete", incomplete_details=details), ClientView("m"))["stop_reason"] == expected


# --------------------------------------------------------------------------------------------------------------- tools
def call_events(index, item, *pieces):
    at = {"output_index": index, "item_id": item["id"]}
    return [
        ("response.output_item.added", {"output_index": index, "item": {**item, "arguments": ""}}),
        *(("response.function_call_arguments.delta", {**at, "delta": piece}) for piece in pieces),
        ("response.function_call_arguments.done", {**at, "arguments": item["arguments"]}),
        ("response.output_item.done", {"output_index": index, "item": item}),
    ]


def test_parallel_calls_whose_deltas_are_mixed():
    first = function_call_item("one", '{"a": 1}', id="fc_1", call_id="call_1")
    second = function_call_item("two", '{"b": "x"}', id="fc_2", call_id="call_2")
    third = function_call_item("three", "{}", id="fc_3", call_id="call_3")
    one, two = call_events(0, first, '{"a"', ": 1}"), call_events(1, second, '{"b": ', '"x"}')
    mixed = [one[0], two[0], two[1], one[1], two[2], one[2], two[3], two[4], *call_events(2, third), one[3], one[4]]
    events = translate(numbered(*mixed, completed(first, second, third)))
    expected = [
        {"type": "tool_use", "id": "call_1", "name": "one", "input": {"a": 1}},
        {"type": "tool_use", "id": "call_2", "name": "two", "input": {"b": "x"}},
        {"type": "tool_use", "id": "call_3", "name": "three", "input": {}},
    ]
    assert content_of(events) == expected == whole([first, second, third])["content"]
    assert accumulate(events)["stop_reason"] == "tool_use"


def test_a_call_that_never_ends_does_not_swallow_the_others():
    first = function_call_item("one", '{"a": 1}', id="fc_1", call_id="call_1")
    second = function_call_item("two", '{"b": 2}', id="fc_2", call_id="call_2")
    stream = [call_events(0, first)[0], *call_events(1, second, '{"b": 2}'), completed(first, second)]
    assert [block["name"] for block in content_of(translate(numbered(*stream)))] == ["one", "two"]


def test_a_freeform_call_and_arguments_that_are_no_object():
    custom = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "*** Begin"}
    assert content_of(translate(items_stream([custom])))[0]["input"] == {"input": "*** Begin"}
    assert whole([custom])["content"][0]["input"] == {"input": "*** Begin"}
    for arguments in ("[1]", '{"cut', ""):
        assert whole([function_call_item("f", arguments)])["content"][0]["input"] == {}


# ------------------------------------------------------------------------------------------------------------ thinking
def reasoning_stream():
    at = {"output_index": 0, "item_id": "rs_1"}
    deltas = [("One", 0), (".", 0), ("Two.", 1)]
    return numbered(
        ("response.output_item.added", {"output_index": 0, "item": {**REASONING, "summary": []}}),
        *(("response.reasoning_summary_text.delta", {**at, "delta": text, "summary_index": n}) for text, n in deltas),
        ("response.output_item.done", {"output_index": 0, "item": REASONING}),
        completed(REASONING),
    )


def test_thinking():
    (block,) = content_of(translate(reasoning_stream()))
    assert (block["type"], block["thinking"]) == ("thinking", "One.\n\nTwo.")
    assert block == whole([REASONING])["content"][0], "the signature is the same"


def test_readable_thinking_is_no_text():
    part = {"type": "reasoning_text", "text": "Hm."}
    item = {"id": "rs_1", "type": "reasoning", "summary": [], "content": [part]}
    place = {"item_id": "rs_1", "output_index": 0, "content_index": 0}
    events = translate(
        numbered(
            ("response.output_item.added", {"output_index": 0, "item": {**item, "content": []}}),
            ("response.content_part.added", {**place, "part": {**part, "text": ""}}),
            ("response.reasoning_text.delta", {**place, "delta": "Hm."}),
            ("response.reasoning_text.done", {**place, "text": "Hm."}),
            ("response.content_part.done", {**place, "part": part}),
            ("response.output_item.done", {"output_index": 0, "item": item}),
            completed(item),
        )
    )
    (block,) = content_of(events)
    assert (block["type"], block["thinking"]) == ("thinking", "Hm.")


def test_thinking_without_text():
    bare = {**REASONING, "summary": []}
    (block,) = content_of(translate(items_stream([bare])))
    assert block["type"] == "redacted_thinking" and block == whole([bare])["content"][0]


@pytest.mark.parametrize("shows_text", [True, False])
def test_an_answer_does_not_end_with_thinking_without_text(shows_text):
    """Some upstreams send what they need of their reasoning after the text."""
    view = ClientView("m", shows_thinking_text=shows_text)
    bare, message = {**REASONING, "id": "rs_2", "summary": []}, message_item("Hello.")
    call = function_call_item("run", "{}")
    for items, count in (([REASONING, message, bare], 2), ([message, bare, call], 3), ([message, bare, bare], 1)):
        content = content_of(translate(items_stream(items), view))
        assert len(content) == count and content[-1]["type"] in ("text", "tool_use")
        assert content == whole(items, view)["content"]


def test_thinking_whose_text_the_client_does_not_want():
    view = ClientView("m", shows_thinking_text=False)
    (block,) = content_of(translate(reasoning_stream(), view))
    assert (block["type"], block["thinking"]) == ("thinking", "") and block["signature"]


def test_a_client_that_does_not_ask_for_thinking_gets_none():
    view = ClientView("m", shows_thinking=False)
    assert content_of(translate(reasoning_stream(), view)) == [] == whole([REASONING], view)["content"]


# -------------------------------------------------------------------------------------------------------------- search
def test_a_web_search():
    call = {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "floway", "sources": [{"type": "url", "url": "https://a.example/x"}]},
    }
    annotation = {
        "type": "url_citation",
        "url": "https://a.example/x",
        "title": "Page A",
        "start_index": 0,
        "end_index": 4,
    }
    message = message_item("Text.")
    message["content"][0]["annotations"] = [annotation]
    events = translate(items_stream([call, message], usage=USAGE))
    by_type = {block["type"]: block for block in content_of(events)}
    use, result, text = by_type["server_tool_use"], by_type["web_search_tool_result"], by_type["text"]
    assert (use["name"], use["input"]) == ("web_search", {"query": "floway"})
    assert result["tool_use_id"] == use["id"]
    assert [(one["url"], one["title"]) for one in result["content"]] == [("https://a.example/x", "Page A")]
    (cited,) = text["citations"]
    assert (cited["url"], cited["title"], cited["cited_text"]) == ("https://a.example/x", "Page A", "Text")
    assert events[-2]["usage"]["server_tool_use"]["web_search_requests"] == 1
    once = whole([call, message])
    assert sorted(map(json.dumps, once["content"])) == sorted(map(json.dumps, by_type.values()))


# ------------------------------------------------------------------------------------------------------ stop sequences
@pytest.mark.parametrize("pieces", [1, 3, 20])
@pytest.mark.parametrize(
    ("sequences", "found"),
    [
        (["END", "\n"], "END"),
        (["never"], None),
        (["ND of", "EN"], "EN"),
        (["END of", "ND"], "ND"),
        (["ND", "END"], "END"),
    ],
)
def test_stop_sequences(pieces, sequences, found):
    text = "before END of it\nafter EN"
    view = ClientView("m", stop_sequences=sequences)
    expected = text[: text.index(found)] if found else text
    events = translate(message_stream(text, pieces=pieces, usage=USAGE), view)
    for message in (accumulate(events), whole([message_item(text)], view)):
        assert message["content"][0]["text"] == expected
        assert message["stop_reason"] == ("stop_sequence" if found else "end_turn")
        assert message.get("stop_sequence") == found
    assert events[-2]["usage"]["output_tokens"] == 20


@pytest.mark.parametrize("pieces", [1, 4])
def test_a_text_that_begins_with_a_stop_sequence_is_no_block(pieces):
    view = ClientView("m", stop_sequences=["STOP"])
    for message in (
        accumulate(translate(message_stream("STOP it", pieces=pieces), view)),
        whole([message_item("STOP it")], view),
    ):
        assert (message["content"], message["stop_reason"], message["stop_sequence"]) == ([], "stop_sequence", "STOP")


def test_a_text_that_only_looks_like_the_beginning_of_a_stop_sequence():
    view = ClientView("m", stop_sequences=["STOP"])
    message = accumulate(translate(message_stream("STO", pieces=3), view))
    assert (message["content"], message["stop_reason"]) == ([{"type": "text", "text": "STO"}], "end_turn")


def test_nothing_follows_a_stop_sequence():
    items = [message_item("a STOP b"), function_call_item("f", "{}")]
    view = ClientView("m", stop_sequences=["STOP"])
    assert [block["type"] for block in content_of(translate(items_stream(items), view))] == ["text"]
    assert [block["type"] for block in whole(items, view)["content"]] == ["text"]


# -------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize("announced", [True, False])
def test_a_failed_stream_ends_in_one_error_event(announced):
    error = {"code": "rate_limit_exceeded", "message": "Slow down."}
    failed = event("response.failed", response=response("failed", error=error))
    events = translate([*message_stream("Half")[:4], *([event("error", **error)] if announced else []), failed])
    assert [one["type"] for one in events[-2:]] == ["content_block_delta", "error"]
    assert events[-1] == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Slow down."},
        "request_id": "req_1",
    }
