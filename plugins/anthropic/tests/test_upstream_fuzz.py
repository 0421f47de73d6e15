"""Made-up answers of upstreams, and made-up requests for them: nothing breaks the translation."""

import json

import pytest
from floway_anthropic.reader import MessageReader
from floway_anthropic.upstream.document import convert_document
from floway_anthropic.upstream.events import ResponseEvents
from hypothesis import given
from hypothesis import strategies as st

from floway_core.errors import GatewayError
from floway_core.protocol.request_schema import find_fault

from . import wire
from .test_fuzz import VALUE, examples, places, replaced
from .test_requests import PNG, SEARCH
from .test_upstream_requests import ADAPTIVE, convert

pytestmark = pytest.mark.soak  # long: many processes, or many examples

CITED = {**wire.say("Text."), "citations": [{"type": "web_search_result_location", "url": "u", "title": "t"}]}
USE = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "u"}]}
BLOCKS = [wire.think("Hm."), CITED, USE, RESULT, wire.call("f", {"a": 1}), wire.call("patch", {"input": "x"})]
EVENTS = [json.loads(one.split(b"data: ")[1]) for one in wire.events(*BLOCKS)]
EVENTS.append({"type": "error", "error": {"type": "api_error", "message": "m"}})


@st.composite
def odd_events(draw):
    one = draw(st.sampled_from(EVENTS))
    path = draw(st.sampled_from([path for path in places(one) if path and path != ("type",)] or [("x",)]))
    return replaced(one, path, draw(VALUE))


@examples(600)
@given(sent=st.lists(st.sampled_from(EVENTS) | odd_events(), max_size=15))
def test_any_events_are_translated_and_followed(sent):
    translator, reader = ResponseEvents("m", {"patch"}), MessageReader()
    for one in sent:
        encoded = f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode()
        translator.feed(encoded)
        reader.feed(encoded)
    translator.end()


MESSAGE = wire.whole(*BLOCKS)
PLACES = [path for path in places(MESSAGE) if path]


@examples(400)
@given(path=st.sampled_from(PLACES), value=VALUE)
def test_any_message_is_converted(path, value):
    content = json.dumps(replaced(MESSAGE, path, value)).encode()
    assert isinstance(json.loads(convert_document(content, "m", {"patch"})), dict)


FULL = {
    "instructions": "Be brief.",
    "input": [
        {"role": "developer", "content": "x"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Hi"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
                {"type": "input_file", "file_data": "JVBERg==", "filename": "a.pdf"},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "d", "name": "patch", "input": "x"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "1"}]},
        {"type": "custom_tool_call_output", "call_id": "d", "output": "2"},
        SEARCH,
    ],
    "tools": [
        {"type": "function", "name": "f", "parameters": {"type": "object"}},
        {"type": "custom", "name": "patch"},
        {"type": "web_search", "user_location": {"city": "U"}},
    ],
    "tool_choice": {"type": "function", "name": "f"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "json_schema", "schema": {}}, "verbosity": "low"},
    "max_output_tokens": 2000,
    "temperature": 1,
}


@examples(800)
@given(path=st.sampled_from([path for path in places(FULL) if path]), value=VALUE, adaptive=st.booleans())
def test_any_request_is_translated_or_refused(path, value, adaptive):
    body = {"model": "m", **replaced(FULL, path, value)}
    if find_fault(body) or not body.get("input"):
        return  # core refuses it
    try:
        convert(ADAPTIVE if adaptive else None, validate=False, **body)
    except GatewayError as error:
        assert error.status == 400
