"""Streams of all kinds, split at every position: the client gets every byte of the upstream, in order."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floway_core.testing import Reply, event, message_stream
from floway_core.testing.events import parse, renamed
from floway_core.testing.fuzz import examples

# What ends a line for somebody, but not in a stream of events.
TEXT = st.lists(
    st.sampled_from(["\u2028", "\u2029", "\x85", "\x0b", "\\n\\n", "😀", "é", "data: ", '"', "a"]), max_size=9
)
BETWEEN = st.sampled_from(
    [
        b": a comment\n\n",
        b"\n",
        b"id: 7\nretry: 3\ndata: {}\n\n",
        b"event: made.up\r\ndata: [1,\r\ndata: 2]\r\n\r\n",
        b"data: not json \xff\xfe\n\n",
        b"data:\n\n",
        event("response.output_text.delta", delta="response.completed", sequence_number=1),
        event("response.made_up", item={"type": "response.completed"}),
        event("response.output_item.done", item="nothing", output_index="x"),
    ]
)


@pytest.fixture
def quiet(gateway):
    before = len(gateway.log)
    yield
    assert "Traceback" not in gateway.log[before:]


@examples(100)
@given(
    text=TEXT.map("".join),
    between=st.lists(st.tuples(st.integers(1, 7), BETWEEN), max_size=6),
    cuts=st.lists(st.integers(0, 5000), max_size=30),
    framing=st.sampled_from(["chunked", "length", "close"]),
    store=st.booleans(),
)
def test_every_byte_arrives(ask, fake_upstream, quiet, text, between, cuts, framing, store):
    pieces = message_stream(text, pieces=2)
    for place, piece in between:
        pieces.insert(place, piece)
    stream = b"".join(pieces)
    places = sorted({0, *(cut % len(stream) for cut in cuts), len(stream)})
    chunks = [stream[start:end] for start, end in itertools.pairwise(places)]
    fake_upstream.script(Reply(chunks, framing=framing))
    received = ask.stream(store=store).body
    assert received.endswith(b"data: [DONE]\n\n")
    received = received.removesuffix(b"data: [DONE]\n\n")
    if not store:
        assert renamed(received) == stream
    # What is stored is marked so in the response objects; all else stays.
    assert texts_in(received) == texts_in(stream) == [text]
    assert untouched(received) == untouched(stream)


def untouched(stream):
    """A stream without the events that hold a response object."""
    events = stream.replace(b"\r\n\r\n", b"\n\n").split(b"\n\n")
    return [each for each in events if b'"response":' not in each]


def texts_in(stream):
    """The text in the last event."""
    last = parse(stream[stream.rindex(b"event: response.completed") :])[-1]
    return [part["text"] for item in last["response"]["output"] for part in item["content"]]


@examples(40)
@given(noise=st.binary(max_size=200), cuts=st.lists(st.integers(0, 300), max_size=5), stream=st.booleans())
def test_noise_is_a_failure_that_is_told(ask, fake_upstream, quiet, noise, cuts, stream):
    """Also when it begins like an answer."""
    begun = b"".join(message_stream()[:2]) + noise
    places = sorted({0, *(cut % len(begun) for cut in cuts), len(begun)})
    fake_upstream.script(Reply([begun[start:end] for start, end in itertools.pairwise(places)]))
    answer = ask.create(stream=stream)
    if stream:
        assert parse(answer.body[answer.body.rindex(b"event: response.failed") :])[-1]["type"] == "response.failed"
    else:
        assert answer.status == 502 and json.loads(answer.body)["error"]["code"] == "upstream_disconnected"


@pytest.mark.parametrize("depth", [240, 260, 900, 990, 1020, 5000])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_an_answer_that_is_nested_deeply_is_relayed_or_a_failure(ask, fake_upstream, quiet, depth, stream, kind):
    nested = b"[" * depth + b"]" * depth
    answer = b'{"id":"resp_1","object":"response","status":"completed","output":[{"type":"x","x":%s}]}' % nested
    if kind == "text/event-stream":
        answer = b'event: response.completed\ndata: {"type":"response.completed","response":%s}\n\n' % answer
    fake_upstream.script(Reply([answer], headers=[("content-type", kind)]))
    told = ask.create(stream=stream)
    if depth == 240:
        assert told.status == 200 and nested in told.body
    else:
        assert told.status == 502 or told.body.count(b"event: response.failed") == 1
