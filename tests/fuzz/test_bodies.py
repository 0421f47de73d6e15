"""Odd JSON of clients is relayed or refused, and never causes a fault of the gateway."""

import json

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from floway_core.testing import Reply, message_stream
from floway_core.testing.fuzz import examples

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
PATHS = st.sampled_from(["/v1/responses", "/v1/responses", "/v1/responses/compact"])
KNOWN = [
    "model",
    "input",
    "previous_response_id",
    "stream",
    "store",
    "conversation",
    "background",
    "tools",
    "reasoning",
]
IN_ITEMS = ["type", "role", "content", "id", "call_id", "encrypted_content", "summary", "status", "text", "output"]


def quoted(text):
    return json.dumps(text)


NUMBERS = [
    "1e400",
    "-1e400",
    "1e-400",
    "-0",
    "-0.0",
    "1" * 25,
    "-" + "1" * 400,
    "1" * 5000,
    "9223372036854775808",
    "0.1",
]
STRINGS = [
    r'"\ud83d"',
    r'"\u0000"',
    r'"\udc00\ud800"',
    '"\u2028"',
    '"\U0010ffff"',
    '""',
    '"' + "x" * 5000 + '"',
    '"\x7f"',
]
OTHERS = ["true", "null", "[]", "{}", "[[]]", '"user"', '"message"', '"reasoning"', '"compaction"', '"item_reference"']
BROKEN = ["NaN", "-Infinity", "'x'", "01", "1.", '"\t"', r'"\x"', r'"\ud8"', "", "[", "}", "undefined"]
SCALAR = st.sampled_from([*NUMBERS, *STRINGS, *OTHERS]) | st.text(max_size=5).map(quoted)
NAME = st.sampled_from([quoted(name) for name in (*KNOWN, *IN_ITEMS)] + STRINGS)


def objects(inner, names=NAME):
    """Objects, as text; a name may be there twice."""
    return st.lists(st.tuples(names, inner), max_size=4).map(as_object)


def as_object(pairs):
    return "{" + ", ".join(f"{name} : {value}" for name, value in pairs) + "}"


def lists(inner):
    return st.lists(inner, max_size=4).map(lambda parts: "[" + ",".join(parts) + "]")


NESTED = st.builds(
    lambda depth, inside: "[" * depth + inside + "]" * depth,
    st.sampled_from([100, 253, 254, 255, 400, 900, 980, 1100]),
    st.sampled_from([r'"\ud83d"', "1", ""]),
)
VALUE = st.recursive(SCALAR | NESTED, lambda inner: lists(inner) | objects(inner), max_leaves=8)
ITEMS = lists(objects(VALUE))
FIELD = st.tuples(NAME, VALUE) | st.tuples(st.just('"input"'), ITEMS)
ASKED = [('"model"', '"model-1"'), ('"input"', '"Hi"')]


@pytest.fixture
def clients(ask, fake_upstream, gateway):
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    before = len(gateway.log)
    yield ask
    assert "Traceback" not in gateway.log[before:]


def checked(answer):
    """Asserts that the request was served or refused, and says which."""
    assert answer.status in (200, 400, 404), answer.body
    if answer.status != 200:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
        assert error["message"]
    return answer.status == 200


@examples(120)
@given(fields=st.lists(FIELD, max_size=3), path=PATHS, first=st.booleans())
def test_any_json_is_relayed_or_refused(clients, fake_upstream, fields, path, first):
    body = as_object(ASKED + fields if first else fields + ASKED)
    note(body[:1000])
    fake_upstream.forget()
    served = checked(clients.post(body.encode(), path))
    if not served or path != "/v1/responses":
        return
    (request,) = fake_upstream.requests
    sent, received = read(body), read(request.body)
    for name in sent.keys() - {"model", "input", "previous_response_id"}:
        assert received[name] == sent[name]


def read(text):
    """Parsed, with large numbers as the gateway takes them."""
    return json.loads(text, parse_int=lambda digits: int(digits) if -(2**63) <= int(digits) < 2**64 else float(digits))


@examples(60)
@given(fields=st.lists(FIELD, max_size=2), broken=st.sampled_from(BROKEN), name=NAME)
def test_what_is_nearly_json_is_refused(clients, fields, broken, name):
    body = as_object([*ASKED, *fields, (name, broken)])
    assert not checked(clients.post(body.encode()))


@examples(60)
@given(cut=st.integers(0, 10**6), noise=st.binary(max_size=4))
def test_a_damaged_body_is_relayed_or_refused(clients, cut, noise):
    body = json.dumps({"model": "model-1", "input": [{"role": "user", "content": "Grüße\ud83d"}], "tools": []}).encode()
    cut %= len(body)
    checked(clients.post(body[:cut] + noise + body[cut + len(noise) :]))


@pytest.mark.parametrize("fields", ['"store": true', '"store": false'])
@pytest.mark.parametrize(
    "item",
    [
        r'{"role": "user", "content": "\ud83d", "x": 1e400}',
        r'{"role": "user", "content": "\ud83d", "x": -1E999}',
        r'{"role": "user", "content": "\ud83d", "x": %s}' % ("[" * 980 + "]" * 980),
        r'{"role": "user", "content": %s}' % ("[" * 990 + r'"\ud83d"' + "]" * 990),
        r'{"role": "user", "content": [%s]}' % ('{"text":' * 900 + r'"\ud83d"' + "}" * 900),
    ],
    ids=range(5),
)  # fmt: skip
def test_what_cannot_be_written_again_is_refused(clients, fields, item):
    checked(clients.post(f'{{"model": "model-1", {fields}, "input": [{item}]}}'.encode()))


@pytest.mark.parametrize("count", [20_000])
def test_very_many_items(clients, fake_upstream, count):
    items = ",".join(["{}"] * count)
    assert checked(clients.post(f'{{"model": "model-1", "input": [{items}]}}'.encode()))
    assert len(json.loads(fake_upstream.requests[0].body)["input"]) == count


def test_very_many_fields_and_names_that_are_said_often(clients, fake_upstream):
    fields = [f'"x{number}": {number}' for number in range(20_000)] + ['"y": 1'] * 20_000
    assert checked(clients.post(f'{{"model": "model-1", "input": [], {", ".join(fields)}}}'.encode()))
    assert len(json.loads(fake_upstream.requests[0].body)) == 20_003
