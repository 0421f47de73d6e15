"""Made-up requests and events: they are served or refused in Google's form, and never break anything."""

import copy
import json
import os

import pytest
from floway_gemini import thoughts
from floway_gemini.client.answers import to_answer
from floway_gemini.client.events import AnswerEvents
from floway_gemini.client.requests import read_request
from floway_gemini.client.view import ClientView
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floway_core.errors import GatewayError
from floway_core.protocol.request_schema import find_fault
from floway_core.testing.events import event, function_call_item, items_stream, message_item

from .conftest import GeminiClient
from .test_events import CITED, REASONING, SEARCH, cited_item
from .test_requests import PNG, request

pytestmark = pytest.mark.soak  # long: many processes, or many examples

TIMES = int(os.environ.get("FLOWAY_TEST_FUZZ") or 1)


def examples(count):
    """As many examples, always the same ones; ``FLOWAY_TEST_FUZZ`` times as many, other ones each time."""
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


IMAGE = {"inlineData": {"mimeType": "image/png", "data": PNG}, "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}}
SCHEMA = {
    "type": "OBJECT",
    "properties": {"a": {"type": "STRING", "nullable": True}, "b": {"type": "ARRAY", "items": {"any_of": [{}]}}},
    "propertyOrdering": ["b"],
    "required": ["a"],
    "minProperties": "1",
}
FULL = {
    "systemInstruction": {"role": "user", "parts": [{"text": "Be brief."}]},
    "contents": [
        {
            "role": "user",
            "parts": [{"text": "Hi"}, IMAGE, {"file_data": {"mime_type": "image/png", "file_uri": "https://a"}}],
        },
        {
            "role": "model",
            "parts": [
                {"text": "Hm.", "thought": True},
                {"text": "A", "thoughtSignature": thoughts.encode_items([REASONING])},
                {"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}},
                {"function_call": {"name": "g"}},
                {"executableCode": {"code": "x"}},
            ],
        },
        {
            "role": "function",
            "parts": [
                {"functionResponse": {"id": "c", "name": "f", "response": {"output": [1]}, "parts": [IMAGE]}},
                {"functionResponse": {"name": "g", "response": {"error": "e"}}},
            ],
        },
    ],
    "tools": [
        {"functionDeclarations": [{"name": "f", "description": "d", "parameters": SCHEMA}]},
        {"function_declarations": [{"name": "g.h", "parametersJsonSchema": {"type": "object"}}]},
        {"googleSearch": {}},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": {
        "temperature": 1,
        "topP": "0.5",
        "topK": 5,
        "maxOutputTokens": 100,
        "stopSequences": ["x"],
        "candidateCount": 1,
        "responseModalities": ["TEXT"],
        "responseMimeType": "application/json",
        "responseSchema": {"type": "ARRAY", "items": SCHEMA},
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 512, "thinkingLevel": "LOW"},
    },
    "safetySettings": [{"category": "c"}],
}

VALUE = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1.5,
        2**70,
        1e300,
        "",
        "x",
        "text",
        "model",
        "\ud83d",
        "\x00",
        [],
        {},
        [[]],
        [None],
        {"text": "t"},
    ]
) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def places(value, path=()):
    """The paths of everything in a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield from places(part, (*path, name))


def replaced(value, path, new):
    """A copy of ``value`` with ``new`` at ``path``; ``DROP`` removes it."""
    value = copy.deepcopy(value)
    parent = value
    for name in path[:-1]:
        parent = parent[name]
    if new is DROP and isinstance(parent, dict):
        del parent[path[-1]]
    else:
        parent[path[-1]] = None if new is DROP else new
    return value


DROP = object()
PLACES = st.sampled_from([path for path in places(FULL) if path])
CHANGES = st.lists(st.tuples(PLACES, VALUE | st.just(DROP)), min_size=1, max_size=2)


def changed(changes):
    body = FULL
    for path, new in changes:
        try:
            body = replaced(body, path, new)
        except (KeyError, IndexError, TypeError, AttributeError):  # an earlier change has removed the place
            continue
    return body


@examples(1500)
@given(changes=CHANGES)
def test_any_request_is_read_or_refused(changes):
    try:
        read = read_request(request(changed(changes)))
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
@given(changes=CHANGES, verb=st.sampled_from(VERBS))
def test_any_request_is_served_or_refused(echo, changes, verb):
    answer = echo.post(json.dumps(changed(changes)).encode(), f"/v1beta/models/echo:{verb}")
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
    from urllib.parse import quote

    path = f"/v1beta/models/{quote(name.encode('utf-8', 'replace'))}:{verb}"
    answer = echo.post({"contents": [{"parts": [{"text": "Hi"}]}]}, path)
    assert answer.status in (400, 404, 405) and set(answer.json()["error"]) >= {"code", "message", "status"}


# -------------------------------------------------------------------------------------------------------------- events
ITEMS = [REASONING, cited_item("Text.", CITED), function_call_item("f", '{"a":1}'), SEARCH, message_item("More.")]
ITEMS.append({"type": "image_generation_call", "id": "ig_1", "result": "aGk="})
EVENTS = [json.loads(one.split(b"data: ")[1]) for one in items_stream(ITEMS)] + [
    {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "x"},
    {"type": "response.refusal.delta", "output_index": 1, "content_index": 0, "delta": "x"},
    {"type": "response.reasoning_summary_text.done", "output_index": 0, "summary_index": 0, "text": "x"},
    {"type": "response.reasoning_text.delta", "output_index": 0, "content_index": 0, "delta": "x"},
    {"type": "error", "message": "m", "code": "c"},
    {"type": "response.failed", "response": {"error": {"code": "c", "message": "m"}}},
]


@st.composite
def odd_events(draw):
    one = draw(st.sampled_from(EVENTS))
    path = draw(st.sampled_from([path for path in places(one) if path and path != ("type",)]))
    return replaced(one, path, draw(VALUE))


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
@given(sent=st.lists(st.sampled_from(EVENTS) | odd_events(), max_size=12), view=VIEWS)
def test_any_events_are_translated(sent, view):
    translator = AnswerEvents(view)
    for one in sent:
        try:
            encoded = event(one["type"], **{name: value for name, value in one.items() if name != "type"})
        except UnicodeEncodeError:
            continue
        translator.feed(encoded)
    translator.end()


@examples(400)
@given(index=st.integers(0, len(ITEMS) - 1), path_at=st.integers(0, 100), value=VALUE, view=VIEWS)
def test_any_response_is_translated(index, path_at, value, view):
    item = ITEMS[index]
    paths = [path for path in places(item) if path]
    output = [*ITEMS, replaced(item, paths[path_at % len(paths)], value)]
    answer = to_answer({"id": "resp_1", "status": "completed", "output": output}, view)
    assert answer["candidates"][0]["finishReason"]
