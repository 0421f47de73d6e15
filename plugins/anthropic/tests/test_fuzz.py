"""Made-up requests and events: they are served or refused in the form of the Messages API, and never break anything."""

import json

import pytest
from floway_anthropic.client.events import MessageEvents
from floway_anthropic.client.messages import to_message
from floway_anthropic.client.requests import read_request
from floway_anthropic.client.tokens import count_tokens
from floway_anthropic.client.view import ClientView
from hypothesis import given
from hypothesis import strategies as st

from floway_core.errors import GatewayError
from floway_core.protocol.request_schema import find_fault
from floway_core.testing.events import function_call_item, items_stream, message_item, parse
from floway_core.testing.fuzz import changed, encode_event, examples, odd_values, one_changed

from .conftest import MessagesClient
from .full_request import FULL
from .test_events import REASONING
from .test_requests import SEARCH, request

pytestmark = pytest.mark.soak  # long: many processes, or many examples

VALUE = odd_values("user", {"type": "text"})


@examples(1500)
@given(body=changed(FULL, VALUE))
def test_any_request_is_read_or_refused(body):
    try:
        converted = read_request(request(body))
    except GatewayError as error:
        assert error.status == 400 and error.param
        return
    assert find_fault(converted.body) is None, "core's own check finds nothing that this dialect does not name"
    assert count_tokens(converted.body) > 0


@pytest.fixture(scope="module")
def echo(codex_gateway):
    """A client of a gateway whose upstream answers everything."""
    assert codex_gateway.run("echo", "add", "mirror").returncode == 0
    yield MessagesClient(codex_gateway)
    assert "Traceback" not in codex_gateway.log


@examples(150)
@given(body=changed(FULL, VALUE), path=st.sampled_from(["/v1/messages", "/v1/messages", "/v1/messages/count_tokens"]))
def test_any_request_is_served_or_refused(echo, body, path):
    answer = echo.post(json.dumps(body).encode(), path)
    assert answer.status in (200, 400, 404), answer.body
    if answer.status != 200:
        refused = answer.json()
        assert (refused["type"], refused["request_id"]) == ("error", answer.headers["request-id"])
        assert refused["error"]["type"] in ("invalid_request_error", "not_found_error") and refused["error"]["message"]


@examples(60)
@given(cut=st.integers(0, 10**6), noise=st.binary(max_size=4))
def test_a_damaged_body_is_served_or_refused(echo, cut, noise):
    body = json.dumps(FULL).encode()
    cut %= len(body)
    assert echo.post(body[:cut] + noise + body[cut + len(noise) :], "/v1/messages").status in (200, 400, 404)


# -------------------------------------------------------------------------------------------------------------- events
ITEMS = [REASONING, message_item("Text."), function_call_item("f", '{"a":1}'), SEARCH]
EVENTS = [
    *parse(b"".join(items_stream(ITEMS))),
    {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "x"},
    {"type": "response.output_text.done", "output_index": 1, "content_index": 0, "text": "xy"},
    {
        "type": "response.output_text.annotation.added",
        "output_index": 1,
        "content_index": 0,
        "annotation": {"url": "u"},
    },
    {"type": "response.content_part.done", "output_index": 1, "content_index": 0, "part": {"type": "refusal"}},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "x"},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{"},
    {"type": "error", "message": "m", "code": "c"},
    {"type": "response.failed", "response": {"error": {"code": "c", "message": "m"}}},
]


@examples(600)
@given(sent=st.lists(st.sampled_from(EVENTS) | one_changed(EVENTS, VALUE), max_size=12), stops=st.booleans())
def test_any_events_are_translated(sent, stops):
    translator = MessageEvents(ClientView("m", stop_sequences=["x"] if stops else []), "r")
    for one in sent:
        translator.feed(encode_event(one))
    translator.end()


@examples(300)
@given(odd=one_changed(ITEMS, VALUE))
def test_any_response_is_translated(odd):
    output = [*ITEMS, odd]
    message = to_message({"id": "resp_1", "status": "completed", "output": output}, ClientView("m"))
    assert message["type"] == "message"
