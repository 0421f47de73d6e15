"""Fields with a wrong type or out of range are refused before an upstream is called; others are sent unchanged."""

import json

import pytest

from floway_core.protocol.request_schema import FIELDS
from floway_core.testing import Reply, message_stream
from floway_core.web.openapi import description

TEXT, NUMBER, LIST, OBJECT, BOOLEAN = "hot", 5, [1], {"a": 1}, True

ILL_TYPED = {
    "background": ["yes", 1, []],
    "context_management": [OBJECT, "x", 1],
    "conversation": [5, [], True],
    "frequency_penalty": [TEXT, True, []],
    "include": ["x", {}, 1, True],
    "instructions": [7, {}, ["x"], True],
    "max_output_tokens": ["5", 1.5, True, [5], {}],
    "max_tool_calls": ["5", 0.5, False],
    "metadata": [5, "x", [], True],
    "parallel_tool_calls": ["yes", 0, 1, {}],
    "presence_penalty": [TEXT, False, {}],
    "previous_response_id": [1, {}, True],
    "prompt": ["pmpt_1", 5, []],
    "prompt_cache_key": [5, {}, True],
    "prompt_cache_options": ["x", []],
    "prompt_cache_retention": [24, {}],
    "reasoning": ["high", 3, [], True],
    "safety_identifier": [5, {}],
    "service_tier": [3, {}, True],
    "store": ["yes", 0, {}],
    "stream": ["yes", 1, []],
    "stream_options": [True, "x", []],
    "temperature": [TEXT, "0.5", True, [], {}],
    "text": [5, "x", [], True],
    "tool_choice": [5, [], True],
    "tools": [{}, "x", 5, True],
    "top_logprobs": ["5", 1.5, True],
    "top_p": [[1], "1", True],
    "truncation": [1, {}, True],
    "user": [{}, 5, []],
}
"""Field -> values that it cannot have."""

INSIDE = [
    ("context_management[1]", {"context_management": [{}, "x"]}),
    ("conversation.id", {"conversation": {"id": 5}}),
    ("include[1]", {"include": ["file_search_call.results", 5]}),
    ("input[1]", {"input": [{"role": "user", "content": "Hi"}, 5]}),
    ("input[0].type", {"input": [{"type": 5}]}),
    ("metadata.a", {"metadata": {"a": 5}}),
    ("metadata.b", {"metadata": {"a": "x", "b": {"c": "d"}}}),
    ("prompt.id", {"prompt": {"id": 5}}),
    ("prompt.version", {"prompt": {"id": "p", "version": 2}}),
    ("prompt.variables", {"prompt": {"id": "p", "variables": []}}),
    ("reasoning.effort", {"reasoning": {"effort": 3}}),
    ("reasoning.effort", {"reasoning": {"effort": True}}),
    ("reasoning.summary", {"reasoning": {"effort": "low", "summary": {}}}),
    ("stream_options.include_obfuscation", {"stream_options": {"include_obfuscation": "no"}}),
    ("text.format", {"text": {"format": "json"}}),
    ("text.format.type", {"text": {"format": {"type": 5}}}),
    ("text.verbosity", {"text": {"verbosity": 5}}),
    ("tool_choice.type", {"tool_choice": {"type": []}}),
    ("tools[0]", {"tools": ["web_search"]}),
    ("tools[1]", {"tools": [{"type": "web_search"}, None]}),
    ("tools[0].type", {"tools": [{"type": 5}]}),
]

OUT_OF_RANGE = [
    ("frequency_penalty", -2.1, "decimal_below_min_value"),
    ("frequency_penalty", 3, "decimal_above_max_value"),
    ("max_output_tokens", -1, "integer_below_min_value"),
    ("max_output_tokens", 0, "integer_below_min_value"),
    ("max_tool_calls", -1, "integer_below_min_value"),
    ("presence_penalty", 2.5, "decimal_above_max_value"),
    ("temperature", -0.1, "decimal_below_min_value"),
    ("temperature", 2.1, "decimal_above_max_value"),
    ("temperature", 1e300, "decimal_above_max_value"),
    ("top_logprobs", 99, "integer_above_max_value"),
    ("top_logprobs", -1, "integer_below_min_value"),
    ("top_p", 1.01, "decimal_above_max_value"),
    ("top_p", -1, "decimal_below_min_value"),
]

FINE = [
    {"temperature": 0},
    {"temperature": 2},
    {"temperature": 0.7, "top_p": 1, "frequency_penalty": -2, "presence_penalty": 2.0},
    {"max_output_tokens": 1, "top_logprobs": 20, "max_tool_calls": 0},
    {"max_output_tokens": 16.0},
    {"max_output_tokens": 10**9},
    {"reasoning": {}},
    {"reasoning": {"effort": "of tomorrow", "summary": "new", "depth": 5}},
    {"reasoning": {"effort": None}},
    {"text": {"format": {"type": "grammar", "more": 1}, "verbosity": "chatty"}},
    {"service_tier": "of tomorrow", "truncation": "sideways", "include": ["of.tomorrow"], "tool_choice": "maybe"},
    {"tools": [], "include": [], "metadata": {}},
    {"tools": [{"type": "of_tomorrow", "x": [1]}, {"name": "no type"}, {"type": None}]},
    {"tool_choice": {"type": "allowed_tools", "tools": [1]}},
    {"metadata": {"a": "b", "c": None}},
    {"prompt": None, "truncation": None},
    {"field_of_tomorrow": {"temperature": "hot"}, "seed": "x", "max_tokens": -1, "logprobs": []},
]


def test_every_field_of_the_table_is_tried():
    assert set(FIELDS) == {*ILL_TYPED, "model", "input"}  # these two have tests of their own


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ILL_TYPED.items() for value in values])
@pytest.mark.parametrize("stream", [True, False])
def test_a_wrong_type(ask, refused, fake_upstream, name, value, stream):
    message = refused(ask.create(**{"stream": stream, name: value}), 400, "invalid_type", name)
    assert message.startswith(f"Invalid type for '{name}': expected a")
    assert fake_upstream.requests == []


@pytest.mark.parametrize(("param", "given"), INSIDE)
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/compact"])
def test_a_wrong_type_inside(ask, refused, fake_upstream, param, given, path):
    refused(ask.post({"model": "model-1", "input": "Hi", **given}, path), 400, "invalid_type", param)
    assert fake_upstream.requests == []


@pytest.mark.parametrize(("name", "value", "code"), OUT_OF_RANGE)
def test_out_of_range(ask, refused, fake_upstream, name, value, code):
    message = refused(ask.create(**{name: value}), 400, code, name)
    assert str(value) in message
    assert fake_upstream.requests == []


def test_null_counts_as_absent(ask, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    assert ask.create(**dict.fromkeys(ILL_TYPED)).status == 200


@pytest.mark.parametrize("given", FINE)
def test_all_else_is_for_the_upstream_to_judge(ask, fake_upstream, given):
    fake_upstream.script(Reply(message_stream()))
    assert ask.create(**given).status == 200
    sent = json.loads(fake_upstream.requests[0].body)
    assert {name: sent[name] for name in given} == given


@pytest.mark.parametrize("name", ["x" * 100_000, "a\r\nb: c", "\ud83d", '"', "ü"])
def test_a_key_that_the_client_chose_is_quoted_in_part(ask, name):
    answer = ask.create(metadata={name: 5})
    assert answer.status == 400 and len(answer.body) < 1000
    assert answer.json()["error"]["param"] == f"metadata.{name[:64]}"


def test_the_description_says_the_same():
    """Types and ranges in /openapi.json are those of the table."""
    described = json.loads(description())["components"]["schemas"]["CreateResponse"]["properties"]
    names = {str: "string", bool: "boolean", list: "array", dict: "object", int: "integer", float: "number"}
    for name in ILL_TYPED.keys() - {"background", "conversation"}:
        rule, schema = FIELDS[name], described[name]
        types = rule.types if float not in rule.types else (float,)
        assert schema["type"] == [*(names[kind] for kind in types), "null"], name
        assert (schema.get("minimum"), schema.get("maximum")) == (rule.minimum, rule.maximum), name
