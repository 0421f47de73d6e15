"""What a client sends and the backend does not get is listed in the answer, and nothing else is."""

import json

import pytest
from floway_codex.simulator import Simulator

from . import gateways

LITE_MODEL = "gpt-6.1-sol"
FUNCTION = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}, "strict": False}
SEARCH = {"type": "web_search"}
REFUSED = [
    {"type": "file_search", "vector_store_ids": ["vs_1"]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
]

CASES = {
    "nothing": ({}, None),
    "tuning": ({"temperature": 0.2, "top_p": 0.5, "max_output_tokens": 100}, "temperature, top_p, max_output_tokens"),
    "zero is a value": ({"temperature": 0}, "temperature"),
    "nulls": ({"temperature": None, "top_p": None, "user": None, "tools": None}, None),
    "false": ({"parallel_tool_calls": False, "background": False}, None),
    "identifiers": ({"user": "me", "safety_identifier": "x"}, "user, safety_identifier"),
    "metadata, which Floway keeps": ({"metadata": {"a": "b"}}, None),
    "what is the default": ({"truncation": "disabled"}, None),
    "what is not the default": ({"truncation": "auto"}, "truncation"),
    "what is passed on": (
        {"reasoning": {"effort": "low"}, "text": {"verbosity": "low"}, "instructions": "Be brief."},
        None,
    ),
    "tools that pass": ({"tools": [FUNCTION, SEARCH], "tool_choice": "auto", "parallel_tool_calls": True}, None),
    "tools that do not": ({"tools": [REFUSED[0], FUNCTION, REFUSED[1]]}, "tools[0], tools[2]"),
    "a choice of one of them": (
        {"tools": REFUSED[:1], "tool_choice": {"type": "file_search"}},
        "tools[0], tool_choice",
    ),
    "a choice with none left": ({"tools": REFUSED, "tool_choice": "required"}, "tools[0], tools[1], tool_choice"),
    "storing, which Floway does": ({"store": True}, None),
}

LITE_CASES = {
    "moved, not lost": ({"tools": [FUNCTION], "instructions": "Be brief.", "reasoning": {"effort": "low"}}, None),
    "fewer tools": ({"tools": [FUNCTION, SEARCH, REFUSED[0]]}, "tools[1], tools[2]"),
    "one call at a time": ({"tools": [FUNCTION], "parallel_tool_calls": True}, "parallel_tool_calls"),
    "context": ({"reasoning": {"effort": "low", "context": "this_turn"}}, "reasoning.context"),
}


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as running:
        yield running


@pytest.fixture(scope="module", params=["0.142.0", "0.169.0"])
def caller(simulator, request):
    with gateways.start(simulator, codex_profile=request.param) as gateway:
        gateways.import_account(gateway, simulator.new_account())
        yield gateways.caller(gateway)


def listed(answer):
    assert answer.status == 200, answer.body
    assert answer.body
    return answer.headers["x-floway-ignored"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_left_out_is_listed(caller, case, stream):
    given, expected = CASES[case]
    assert listed(caller.create(model=gateways.MODEL, stream=stream, **given)) == expected


@pytest.mark.parametrize("case", LITE_CASES)
def test_for_a_responses_lite_model(caller, case):
    given, expected = LITE_CASES[case]
    assert listed(caller.create(model=LITE_MODEL, **given)) == expected


def test_what_is_listed_is_not_sent(caller, simulator):
    simulator.clear()
    given = {"temperature": 1, "user": "me", "tools": [*REFUSED, FUNCTION], "text": {"verbosity": "low"}}
    names = listed(caller.create(model=gateways.MODEL, **given)).split(", ")
    assert names == ["temperature", "user", "tools[0]", "tools[1]"]
    (sent,) = [request for request in simulator.requests if request.path.endswith("/responses")]
    body = sent.body if isinstance(sent.body, dict) else json.loads(sent.body)
    assert body["tools"] == [FUNCTION] and body["text"] == {"verbosity": "low"}
    assert not {"temperature", "user"} & body.keys()


def test_ill_typed_fields_are_refused_though_they_would_be_left_out(caller, simulator):
    simulator.clear()
    for name, value in {"temperature": "hot", "max_output_tokens": -1, "metadata": 5, "top_p": [1], "user": {}}.items():
        answer = caller.create(model=gateways.MODEL, **{name: value})
        assert (answer.status, answer.json()["error"]["param"]) == (400, name)
    assert not [request for request in simulator.requests if request.path.endswith("/responses")]
