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
from floway_core.testing.fuzz import PNG, changed, examples, full_responses_request, one_changed

from . import wire
from .full_request import FULL
from .test_fuzz import VALUE
from .test_requests import request

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


ODD_PIECES = one_changed(PIECES, VALUE)


@examples(800)
@given(sent=st.lists(st.sampled_from(PIECES) | ODD_PIECES, max_size=8))
def test_any_pieces_are_translated_and_followed(sent):
    translator, reader = make(), ContentReader()
    for one in sent:
        encoded = f"data: {json.dumps(one)}\r\n\r\n".encode()
        translator.feed(encoded)
        reader.feed(encoded)
    translator.end()
    reader.end()


@examples(400)
@given(answer=ODD_PIECES, is_array=st.booleans())
def test_any_answer_is_converted_and_followed(answer, is_array):
    content = json.dumps([answer] if is_array else answer).encode()
    json.loads(convert_document(content, make))
    if not is_array:
        ContentReader().read(content)


@examples(400)
@given(body=changed(FULL, VALUE, most=1))
def test_any_request_of_the_same_dialect_can_be_passed_on(body):
    assert json.loads(write_body(request(body), "gemini-3-x"))


TOOL_CHOICE = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}


@examples(800)
@given(
    fields=changed(full_responses_request(tool_choice=TOOL_CHOICE), VALUE, most=1),
    model=st.sampled_from(["gemini-2.5-pro", "gemini-3-pro", "other"]),
)
def test_any_request_is_translated_or_refused(fields, model):
    body = {"model": "m", **fields}
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
