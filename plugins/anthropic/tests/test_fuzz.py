"""Made-up requests and events: they are served or refused in the form of the Messages API, and never break anything."""

import copy
import json
import os

import pytest
from floway_anthropic.client.events import MessageEvents
from floway_anthropic.client.messages import to_message
from floway_anthropic.client.requests import read_request
from floway_anthropic.client.tokens import count_tokens
from floway_anthropic.client.view import ClientView
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floway_core.errors import GatewayError
from floway_core.protocol.request_schema import find_fault
from floway_core.testing.events import event, function_call_item, items_stream, message_item

from .conftest import MessagesClient
from .test_events import REASONING
from .test_requests import PNG, SEARCH, request

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


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
FULL = {
    "model": "echo",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, IMAGE]},
        {"role": "system", "content": "Now."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "A", "citations": []},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "u"}]},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": [IMAGE]},
                {"type": "document", "title": "T", "source": {"type": "text", "data": "D"}},
                {"type": "search_result", "title": "T", "source": "s", "content": [{"type": "text", "text": "R"}]},
                {"type": "tool_reference", "tool_name": "f"},
            ],
        },
    ],
    "tools": [
        {"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}, "strict": True},
        {"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["a"], "user_location": {"city": "U"}},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
    ],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    "stop_sequences": ["x"],
    "temperature": 1,
    "metadata": {"user_id": "{}"},
    "service_tier": "auto",
    "stream": False,
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
        "user",
        "\ud83d",
        "\x00",
        [],
        {},
        [[]],
        [None],
        {"type": "text"},
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
        converted = read_request(request(changed(changes)))
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
@given(changes=CHANGES, path=st.sampled_from(["/v1/messages", "/v1/messages", "/v1/messages/count_tokens"]))
def test_any_request_is_served_or_refused(echo, changes, path):
    body = json.dumps(changed(changes)).encode()
    answer = echo.post(body, path)
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
EVENTS = [json.loads(one.split(b"data: ")[1]) for one in items_stream(ITEMS)] + [
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


@st.composite
def odd_events(draw):
    one = draw(st.sampled_from(EVENTS))
    path = draw(st.sampled_from([path for path in places(one) if path and path != ("type",)]))
    return replaced(one, path, draw(VALUE))


@examples(600)
@given(sent=st.lists(st.sampled_from(EVENTS) | odd_events(), max_size=12), stops=st.booleans())
def test_any_events_are_translated(sent, stops):
    translator = MessageEvents(ClientView("m", stop_sequences=["x"] if stops else []), "r")
    for one in sent:
        try:
            encoded = event(one["type"], **{name: value for name, value in one.items() if name != "type"})
        except UnicodeEncodeError:
            continue
        translator.feed(encoded)
    translator.end()


@examples(300)
@given(index=st.integers(0, 3), path_at=st.integers(0, 100), value=VALUE)
def test_any_response_is_translated(index, path_at, value):
    item = ITEMS[index]
    paths = [path for path in places(item) if path]
    output = [*ITEMS, replaced(item, paths[path_at % len(paths)], value)]
    message = to_message({"id": "resp_1", "status": "completed", "output": output}, ClientView("m"))
    assert message["type"] == "message"
