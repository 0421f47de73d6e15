"""Made-up answers of upstreams, and made-up requests for them: nothing breaks the translation."""

import json
from types import SimpleNamespace

import pytest
from floway_gemini.reader import ContentReader
from floway_gemini.upstream.events import ResponseEvents, convert_document
from floway_gemini.upstream.pass_through import write_body
from floway_gemini.upstream.requests import convert_request
from hypothesis import given
from hypothesis import strategies as st

from floway_core.errors import GatewayError
from floway_core.protocol.request_schema import find_fault

from . import wire
from .test_events import SEARCH
from .test_fuzz import FULL as CLIENT
from .test_fuzz import VALUE, examples, places, replaced
from .test_requests import PNG, request

pytestmark = pytest.mark.soak  # long: many processes, or many examples

GROUNDING = {
    "webSearchQueries": ["q"],
    "groundingChunks": [{"web": {"uri": "u", "title": "t"}}],
    "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 2}, "groundingChunkIndices": [0]}],
}
PARTS = [
    wire.think("Hm."),
    wire.signed(wire.say("Grüße")),
    wire.signed(wire.call("f", {"a": 1}, id="c")),
    wire.call("patch", {"input": "x"}),
    {"inlineData": {"mimeType": "image/png", "data": PNG}},
]
PIECES = [
    wire.piece(*PARTS),
    wire.piece(wire.say("Text."), finish_reason="STOP", groundingMetadata=GROUNDING),
    wire.piece(finish_reason="MALFORMED_FUNCTION_CALL", finishMessage="m"),
    {"promptFeedback": {"blockReason": "SAFETY"}},
    wire.error_body(503, "UNAVAILABLE", "m"),
]


def make():
    return ResponseEvents("m", "r", {"patch"})


@st.composite
def odd_pieces(draw):
    one = draw(st.sampled_from(PIECES))
    path = draw(st.sampled_from([path for path in places(one) if path]))
    return replaced(one, path, draw(VALUE))


@examples(800)
@given(sent=st.lists(st.sampled_from(PIECES) | odd_pieces(), max_size=8))
def test_any_pieces_are_translated_and_followed(sent):
    translator, reader = make(), ContentReader()
    for one in sent:
        encoded = f"data: {json.dumps(one)}\r\n\r\n".encode()
        translator.feed(encoded)
        reader.feed(encoded)
    translator.end()
    reader.end()


@examples(400)
@given(answer=odd_pieces(), is_array=st.booleans())
def test_any_answer_is_converted_and_followed(answer, is_array):
    content = json.dumps([answer] if is_array else answer).encode()
    json.loads(convert_document(content, make))
    if not is_array:
        ContentReader().read(content)


@examples(400)
@given(path=st.sampled_from([path for path in places(CLIENT) if path]), value=VALUE)
def test_any_request_of_the_same_dialect_can_be_passed_on(path, value):
    assert json.loads(write_body(request(replaced(CLIENT, path, value)), "gemini-3-x"))


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
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "json_schema", "schema": {}}, "verbosity": "low"},
    "max_output_tokens": 2000,
    "temperature": 1,
}


@examples(800)
@given(
    path=st.sampled_from([path for path in places(FULL) if path]),
    value=VALUE,
    model=st.sampled_from(["gemini-2.5-pro", "gemini-3-pro", "other"]),
)
def test_any_request_is_translated_or_refused(path, value, model):
    body = {"model": "m", **replaced(FULL, path, value)}
    if find_fault(body) or not body.get("input"):
        return  # core refuses it
    attempt = SimpleNamespace(model=model)
    try:
        converted = convert_request(SimpleNamespace(body=body, attempt=attempt, ignore=lambda *names: None), {})
    except GatewayError as error:
        assert error.status == 400
        return
    roles = [content["role"] for content in converted["contents"]]
    assert roles[0] == roles[-1] == "user" and all(content["parts"] for content in converted["contents"])
