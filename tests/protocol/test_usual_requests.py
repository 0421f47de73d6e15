"""What is done only for usual requests and answers gives what the long way gives."""

import json
import random

import pytest

from floway_core.protocol import headers, jsontext, request_schema, usage

ODD_COUNTS = [10**9, 10**9 + 1, -1, 3.0, 2.5, True, "5", None, [], {}]
ALIASES = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}


def make_usage(made):
    """Make a ``usage`` object. Every second one is careless: fields are missing, or of another kind."""
    counts = {name: made.randrange(1000) for name in ("input_tokens", "output_tokens", "total_tokens")}
    cached = {"cached_tokens": made.randrange(9), "cache_write_tokens": made.randrange(9), "more": 1}
    details = [cached, {"reasoning_tokens": made.randrange(9)}]
    given = {"cost": 0.5, **counts, "input_tokens_details": details[0], "output_tokens_details": details[1]}
    if made.random() < 0.5:
        return given
    for part in (given, *details):
        for name in list(part):
            spoils = made.random()
            if spoils < 0.1:
                del part[name]
            elif spoils < 0.2:
                part[name] = made.choice(ODD_COUNTS)
            elif spoils < 0.3 and name in ALIASES:
                part[ALIASES[name]] = part.pop(name)
    return given


@pytest.mark.parametrize("seed", range(400))
def test_a_complete_usage_is_the_completed_one(monkeypatch, seed):
    given = make_usage(random.Random(seed))
    before = json.dumps(given)
    short = usage.complete_usage(given), usage.usage_of({"usage": given})
    monkeypatch.setattr(usage, "_read_complete", lambda given: None)
    assert (usage.complete_usage(given), usage.usage_of({"usage": given})) == short
    assert json.dumps(short[0]) == json.dumps(usage.complete_usage(given))  # true and 1.0 are not 1
    assert json.dumps(given) == before


@pytest.mark.parametrize("given", [None, [], "5", 5])
def test_what_is_no_usage_has_no_tokens(given):
    assert usage.complete_usage(given) is None
    assert usage.usage_of({"usage": given}) == usage.NO_TOKENS


VALUES = ["text", "", None, 5, 0.5, True, [], {}, {"type": "text"}, {"type": 5}, {"id": "x"}, ["text"], {"type": None}]


@pytest.mark.parametrize("seed", range(400))
def test_usual_lists_have_no_fault(monkeypatch, seed):
    made = random.Random(seed)
    body = {
        name: [made.choice(VALUES[made.choice([0, 8]) :]) for _ in range(made.randrange(4))]
        for name in ("input", "tools", "include", "context_management", "metadata")
    }
    short = request_schema.find_field_fault(body, request_schema.FIELDS)
    monkeypatch.setattr(request_schema, "_are_usual", lambda *_: False)
    assert request_schema.find_field_fault(body, request_schema.FIELDS) == short


ENVIRON = {
    "REQUEST_METHOD": "POST",
    "CONTENT_TYPE": "application/json",
    "CONTENT_LENGTH": "2",
    "HTTP_X_ONE": "1",
    "HTTP_EMPTY": "",
    "HTTP_AUTHORIZATION": "Bearer secret",
    "HTTP_CONTENT_LENGTH": "3",
    "HTTP_KEY": "secret",
    headers.UNDERSCORED: {"x_one": "2"},
}


def test_headers_are_the_same_whether_their_names_are_remembered_or_not(monkeypatch):
    expected = {"x-one": "1", "empty": "", "content-type": "application/json", "content-length": "2", "x_one": "2"}
    for limit in (headers.MAX_REMEMBERED_LENGTH, 0):
        monkeypatch.setattr(headers, "MAX_REMEMBERED_LENGTH", limit)
        for value in ("1", "changed"):
            found = headers.client_headers(ENVIRON | {"HTTP_X_ONE": value}, headers.CREDENTIALS | {"key"})
            assert list(found.items()) == list((expected | {"x-one": value}).items())
        assert headers.client_headers(ENVIRON)["key"] == "secret"
        assert "content-type" not in headers.client_headers(ENVIRON | {"CONTENT_TYPE": ""})
        assert headers.client_headers({}) == {}


@pytest.mark.parametrize("levels", [jsontext.MAX_LEVELS - 1, jsontext.MAX_LEVELS, jsontext.MAX_LEVELS + 1, 900])
@pytest.mark.parametrize("inner", ["", "5", '"\\ud83d"', "{}"])
def test_lists_that_are_nested_too_deeply_are_found(levels, inner):
    text = "[" * levels + inner + "]" * levels
    is_too_deep = levels + (inner == "{}") > jsontext.MAX_LEVELS
    assert jsontext.is_too_deep(json.loads(text)) is is_too_deep
    if is_too_deep:
        with pytest.raises(ValueError, match="nested too deeply"):
            jsontext.loads(text.encode())


def walk(value):
    """Return how many values and levels a JSON value has."""
    if not isinstance(value, dict | list):
        return 1, 0
    parts = [walk(part) for part in (value.values() if isinstance(value, dict) else value)]
    return 1 + sum(values for values, _ in parts), 1 + max((levels for _, levels in parts), default=0)


def random_value(pick, levels):
    kind = pick.randrange(8) if levels else 0
    if kind > 5:
        return [random_value(pick, levels - 1) for _ in range(pick.randrange(4))]
    if kind > 3:
        return {f"{pick.random()}": random_value(pick, levels - 1) for _ in range(pick.randrange(9))}
    return pick.choice([None, True, 5, 2**70, 1.5, "text", "", [], {}])


def test_values_and_levels_are_counted():
    """The garbage collector lists each value of an object once, and no keys."""
    pick = random.Random(1)
    for _ in range(2000):
        value = random_value(pick, 6)
        for loads in (jsontext.loads, json.loads):
            assert jsontext.measure(loads(json.dumps(value).encode())) == walk(value)
