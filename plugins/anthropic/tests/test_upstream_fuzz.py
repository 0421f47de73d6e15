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
from floway_core.testing.events import parse
from floway_core.testing.fuzz import changed, encode_event, examples, full_responses_request, one_changed

from . import wire
from .test_fuzz import VALUE
from .test_upstream_requests import ADAPTIVE, convert

pytestmark = pytest.mark.soak  # long: many processes, or many examples

CITED = {**wire.say("Text."), "citations": [{"type": "web_search_result_location", "url": "u", "title": "t"}]}
USE = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "u"}]}
BLOCKS = [wire.think("Hm."), CITED, USE, RESULT, wire.call("f", {"a": 1}), wire.call("patch", {"input": "x"})]
EVENTS = [*parse(b"".join(wire.events(*BLOCKS))), {"type": "error", "error": {"type": "api_error", "message": "m"}}]


@examples(600)
@given(sent=st.lists(st.sampled_from(EVENTS) | one_changed(EVENTS, VALUE), max_size=15))
def test_any_events_are_translated_and_followed(sent):
    translator, reader = ResponseEvents("m", {"patch"}), MessageReader()
    for one in sent:
        encoded = encode_event(one)
        translator.feed(encoded)
        reader.feed(encoded)
    translator.end()


@examples(400)
@given(message=changed(wire.whole(*BLOCKS), VALUE, most=1))
def test_any_message_is_converted(message):
    assert isinstance(json.loads(convert_document(json.dumps(message).encode(), "m", {"patch"})), dict)


@examples(800)
@given(fields=changed(full_responses_request(), VALUE, most=1), adaptive=st.booleans())
def test_any_request_is_translated_or_refused(fields, adaptive):
    body = {"model": "m", **fields}
    if find_fault(body) or not body.get("input"):
        return  # core refuses it
    try:
        convert(ADAPTIVE if adaptive else None, validate=False, **body)
    except GatewayError as error:
        assert error.status == 400
