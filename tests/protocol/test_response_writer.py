"""Events written step by step are those of the Responses API: whole, numbered, and readable by a strict client."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.failures import Failure
from floway_core.protocol.response_writer import ResponseEventWriter
from floway_core.testing.events import USAGE, parse

EVENT = TypeAdapter(ResponseStreamEvent)

TEXT = st.text(max_size=5)
KEYS = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("text"), TEXT),
    st.tuples(st.just("refusal"), TEXT),
    st.tuples(st.just("reasoning"), TEXT),
    st.tuples(st.just("summary"), TEXT),
    st.tuples(st.just("end_part")),
    st.tuples(st.just("end_reasoning"), st.none() | st.just("sealed")),
    st.tuples(st.just("annotation")),
    st.tuples(st.just("open"), KEYS, st.booleans()),
    st.tuples(st.just("delta"), KEYS, TEXT),
    st.tuples(st.just("close"), KEYS),
    st.tuples(st.just("item")),
)


def write(writer, step, *arguments):
    """Take one step of ``STEPS``."""
    match step, *arguments:
        case "summary", text:
            return writer.reasoning(text, summary=True)
        case "annotation", *_:
            return writer.annotation(
                {"type": "url_citation", "url": "http://a", "title": "", "start_index": 0, "end_index": 0}
            )
        case "delta", key, text:
            return writer.call_delta(key, text) if writer.is_open(key) else b""
        case "close", key:
            return writer.close_call(key)
        case "item", *_:
            return writer.item(
                {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}
            )
    return getattr(writer, step)(*arguments)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=12), st.sampled_from([None, "max_output_tokens"]))
def test_any_sequence_of_steps_is_a_stream_that_needs_no_mending(steps, reason):
    writer = ResponseEventWriter("model-1", id="resp_1", created_at=1700000000)
    counter = itertools.count()
    told = b""
    for step in steps:
        if step[0] == "open":
            told += writer.open_call(step[1], f"call_{next(counter)}", "f", custom=step[2])
        else:
            told += write(writer, *step)
    told += writer.complete(USAGE, incomplete_reason=reason)
    events = parse(told)
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    follower = ResponseAccumulator({}, "model-1")
    assert follower.add_events(told) + follower.terminal_event == told
    assert follower.response == writer.response == events[-1]["response"]
    client = ResponseStreamState(input_tools=omit, text_format=omit)
    for one in events:
        client.handle_event(EVENT.validate_python(one))


def test_deltas_add_up_and_items_close_when_another_begins():
    writer = ResponseEventWriter("model-1")
    told = writer.reasoning("Thin", summary=True) + writer.reasoning("king.", summary=True)
    told += writer.end_reasoning("sealed") + writer.text("Hel") + writer.text("lo.")
    told += writer.open_call("a", "call_a", "f") + writer.open_call("b", "call_b", "g", custom=True)
    told += writer.call_delta("a", '{"x"') + writer.call_delta("b", "raw") + writer.call_delta("a", ":1}")
    told += writer.complete(None)
    output = parse(told)[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "custom_tool_call"]
    assert output[0]["summary"][0]["text"] == "Thinking." and output[0]["encrypted_content"] == "sealed"
    assert output[1]["content"][0]["text"] == "Hello."
    assert (output[2]["arguments"], output[3]["input"]) == ('{"x":1}', "raw")
    closed = [one["item"]["type"] for one in parse(told) if one["type"] == "response.output_item.done"]
    assert closed == [item["type"] for item in output]


def test_what_is_cut_short_says_so():
    writer = ResponseEventWriter("model-1")
    told = writer.text("Hel") + writer.complete(USAGE, incomplete_reason="max_output_tokens")
    response = parse(told)[-1]["response"]
    assert response["status"] == response["output"][0]["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"} and response["usage"] == USAGE


def test_a_failure_keeps_what_came_before():
    writer = ResponseEventWriter("model-1")
    told = writer.text("Hel") + writer.fail(Failure("Too many.", "overloaded"))
    last = parse(told)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {"code": "overloaded", "message": "Too many."}
    assert last["response"]["output"][0]["content"][0]["text"] == "Hel"
