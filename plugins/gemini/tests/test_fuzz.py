"""Made-up requests and events: they are served or refused in Google's form, and never break anything."""

import json
from urllib.parse import quote

import pytest
from floway_gemini.client.answers import to_answer
from floway_gemini.client.events import AnswerEvents
from floway_gemini.client.requests import read_request
from floway_gemini.client.view import ClientView
from hypothesis import given
from hypothesis import strategies as st

from floway_core.errors import GatewayError
from floway_core.protocol.request_schema import find_fault
from floway_core.testing.events import function_call_item, items_stream, message_item, parse
from floway_core.testing.fuzz import changed, encode_event, examples, odd_values, one_changed

from .conftest import GeminiClient
from .full_request import FULL
from .test_events import CITED, REASONING, SEARCH, cited_item
from .test_requests import request

pytestmark = pytest.mark.soak  # long: many processes, or many examples

VALUE = odd_values("model", {"text": "t"})


@examples(1500)
@given(body=changed(FULL, VALUE))
def test_any_request_is_read_or_refused(body):
    try:
        read = read_request(request(body))
    except GatewayError as error:
        read, refused = None, error
    else:
        refused = read.untranslatable
    if refused:
        assert refused.status == 400 and refused.param and refused.param in refused.message
    else:
        assert find_fault(read.body) is None, "core's own check finds nothing that this dialect does not name"


@pytest.fixture(scope="module")
def echo(codex_gateway):
    """A client of a gateway whose upstream answers everything."""
    assert codex_gateway.run("echo", "add", "mirror").returncode == 0
    yield GeminiClient(codex_gateway)
    assert "Traceback" not in codex_gateway.log


VERBS = ["generateContent", "streamGenerateContent?alt=sse", "streamGenerateContent", "countTokens"]


@examples(200)
@given(body=changed(FULL, VALUE), verb=st.sampled_from(VERBS))
def test_any_request_is_served_or_refused(echo, body, verb):
    answer = echo.post(json.dumps(body).encode(), f"/v1beta/models/echo:{verb}")
    assert answer.status in (200, 400), answer.body
    if answer.status != 200:
        error = answer.json()["error"]
        assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT") and error["message"]


@examples(60)
@given(cut=st.integers(0, 10**6), noise=st.binary(max_size=4), verb=st.sampled_from(VERBS))
def test_a_damaged_body_is_served_or_refused(echo, cut, noise, verb):
    body = json.dumps(FULL).encode()
    cut %= len(body)
    answer = echo.post(body[:cut] + noise + body[cut + len(noise) :], f"/v1beta/models/echo:{verb}")
    assert answer.status in (200, 400)


@examples(100)
@given(name=st.text(min_size=1, max_size=8), verb=st.sampled_from([*VERBS, "x", ""]))
def test_any_path_is_served_or_refused(echo, name, verb):
    path = f"/v1beta/models/{quote(name.encode('utf-8', 'replace'))}:{verb}"
    answer = echo.post({"contents": [{"parts": [{"text": "Hi"}]}]}, path)
    assert answer.status in (400, 404, 405) and set(answer.json()["error"]) >= {"code", "message", "status"}


# -------------------------------------------------------------------------------------------------------------- events
ITEMS = [REASONING, cited_item("Text.", CITED), function_call_item("f", '{"a":1}'), SEARCH, message_item("More.")]
ITEMS.append({"type": "image_generation_call", "id": "ig_1", "result": "aGk="})
EVENTS = [
    *parse(b"".join(items_stream(ITEMS))),
    {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "x"},
    {"type": "response.refusal.delta", "output_index": 1, "content_index": 0, "delta": "x"},
    {"type": "response.reasoning_summary_text.done", "output_index": 0, "summary_index": 0, "text": "x"},
    {"type": "response.reasoning_text.delta", "output_index": 0, "content_index": 0, "delta": "x"},
    {"type": "error", "message": "m", "code": "c"},
    {"type": "response.failed", "response": {"error": {"code": "c", "message": "m"}}},
]


VIEWS = st.builds(
    ClientView,
    st.just("m"),
    st.just("r"),
    is_array=st.booleans(),
    shows_thoughts=st.booleans(),
    stop_sequences=st.sampled_from([[], ["x"]]),
    is_wrapped=st.booleans(),
)


@examples(600)
@given(sent=st.lists(st.sampled_from(EVENTS) | one_changed(EVENTS, VALUE), max_size=12), view=VIEWS)
def test_any_events_are_translated(sent, view):
    translator = AnswerEvents(view)
    for one in sent:
        translator.feed(encode_event(one))
    translator.end()


@examples(400)
@given(odd=one_changed(ITEMS, VALUE), view=VIEWS)
def test_any_response_is_translated(odd, view):
    output = [*ITEMS, odd]
    answer = to_answer({"id": "resp_1", "status": "completed", "output": output}, view)
    assert answer["candidates"][0]["finishReason"]
