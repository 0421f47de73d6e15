"""Streams are split into events and chunks independently of how the bytes arrive."""

import itertools
import json
import re
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floway_core.errors import UpstreamBroken
from floway_core.protocol import jsontext, responses, sse
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.jsontext import MAX_LEVELS
from floway_core.protocol.usage import usage_of
from floway_core.testing import event, message_item, message_stream
from floway_core.testing.events import parse, response
from floway_core.upstream.response_parser import ResponseParser


def pieces_of(data, cuts):
    """``data`` cut at ``cuts``."""
    places = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places) if start < end]


LINES = st.sampled_from([b"data: x", b": comment", b"event: e", b"", "data: é\u2028".encode(), b"data: \r", b"id"])
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n"])), max_size=12).map(
    lambda lines: b"".join(line + end for line, end in lines)
)
CUTS = st.lists(st.integers(1, 300), max_size=20)


@given(STREAMS, CUTS)
def test_any_cutting_of_a_stream_yields_the_same_events(stream, cuts):
    whole, splitter = sse.EventSplitter(10**6), sse.EventSplitter(10**6)
    expected = whole.feed(stream)
    found = b"".join(splitter.feed(piece) for piece in pieces_of(stream, cuts))
    assert expected.startswith(found) and not expected[len(found) :].strip(b"\r\n")  # but for further empty lines
    assert stream.startswith(expected)
    rest = stream[len(expected) :]
    assert b"\n\n" not in rest and b"\n\r\n" not in rest


@given(STREAMS)
def test_following_a_block_loses_nothing(stream):
    block = sse.EventSplitter(10**6).feed(stream)
    events = ResponseAccumulator({})
    assert events.add_events(block) + events.terminal_event == block


def _unspaced(stream):
    """Without empty lines, which mean nothing between events; one that is written anew loses those before it."""
    return re.sub(rb"[\r\n]+", b"\n", stream).lstrip()


@given(st.lists(st.sampled_from([*message_stream(), b": ping\n\n", b"\n", b"data: x\r\n\r\n"]), max_size=12))
def test_events_are_followed_alike_together_and_alone(events):
    together, alone = ResponseAccumulator({"id": "resp_9"}), ResponseAccumulator({"id": "resp_9"})
    one_by_one = b""
    with mock.patch.object(responses, "time", **{"time.return_value": 1.7e9}):  # it is in responses that begin here
        seen = together.add_events(b"".join(events)) + together.terminal_event
        for each in events:
            if not alone.terminal:
                one_by_one += alone.add_events(each)
    assert _unspaced(seen) == _unspaced(one_by_one + alone.terminal_event)
    assert (together.terminal, together.response) == (alone.terminal, alone.response)


def test_an_event_may_only_be_so_long():
    splitter = sse.EventSplitter(10)
    assert splitter.feed(b"0123456789") == b""
    with pytest.raises(ValueError, match="longer than 10 bytes"):
        splitter.feed(b"0")


@given(st.text(), st.sampled_from([b"\n", b"\r\n"]))
def test_what_is_encoded_is_parsed(text, end):
    data = json.dumps(text).encode()
    encoded = sse.encode("response.made_up", data).replace(b"\n", end)
    assert sse.parse(encoded) == ("response.made_up", data)


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_only_line_ends_end_lines(separator):
    data = f'{{"a":"{separator}"}}'.encode()
    assert sse.parse(b"data: " + data + b"\n\n") == (None, data)


# ------------------------------------------------------------------------------------------------------------ framing
HEAD = b"HTTP/1.1 200 OK\r\n%s\r\n\r\n"
CHUNKED = HEAD % b"transfer-encoding: chunked"


def fed(*pieces):
    """An answer that came in ``pieces``, and its body so far."""
    answer, body = ResponseParser(), b""
    for piece in pieces:
        body += answer.feed(piece)
    return answer, body


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), CUTS, st.booleans(), st.booleans(), st.booleans())
def test_any_cutting_of_a_chunked_answer_yields_the_same_body(chunks, cuts, extended, trailed, hinted):
    extension = b';name="a b"' if extended else b""
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" if hinted else b""
    framed = b"".join(b"%X%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"0\r\n"
    framed += b"x-trailer: 1\r\n\r\n" if trailed else b"\r\n"
    answer, body = fed(*pieces_of(hints + CHUNKED + framed, cuts))
    assert body == b"".join(chunks)
    assert (answer.status, answer.headers) == (200, [("transfer-encoding", "chunked")])
    assert answer.ended and answer.reusable


@given(
    st.binary(min_size=1, max_size=200),
    CUTS,
    st.binary(max_size=3).filter(lambda excess: not excess.strip(b"\r\n") or excess[:1] not in b"\r\n"),
)
def test_any_cutting_of_a_counted_answer_yields_the_same_body(content, cuts, excess):
    pieces = pieces_of(HEAD % b"content-length: %d" % len(content) + content, cuts)
    answer, body = fed(*pieces[:-1], pieces[-1] + excess)
    assert body == content
    assert answer.ended and answer.reusable is not bool(excess.strip(b"\r\n"))


@pytest.mark.parametrize("framed", [b"", b"5\r\nab", b"5\r\nabcde", b"5\r\nabcde\r\n", b"0\r\n", b"0\r\na: b\r\n"])
def test_a_chunked_body_that_ends_early(framed):
    answer, _ = fed(CHUNKED + framed)
    assert not answer.ended
    with pytest.raises(UpstreamBroken):
        answer.feed(b"")


@pytest.mark.parametrize("framed", [b"x\r\n", b"-1\r\n", b"\r\n", b"5\r\nabcdeX\r\n", b"0x5\r\n", b"a" * 20_000])
def test_what_is_not_chunked_is_refused(framed):
    """At the latest with the next bytes: the part of the body before it is returned first."""
    with pytest.raises(UpstreamBroken, match=r"not valid HTTP|does not end"):
        fed(CHUNKED + framed, b"0\r\n\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-odd(y): 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 30_000,
    ],
)
def test_a_head_that_is_refused(head):
    with pytest.raises(UpstreamBroken):
        fed(head)


def test_trailers_must_end():
    answer, _ = fed(CHUNKED + b"1\r\na\r\n0\r\n")
    with pytest.raises(UpstreamBroken, match="does not end"):
        for _ in range(1000):
            answer.feed(b"x" * 1000)


def test_bytes_behind_a_chunked_body_are_noticed():
    answer, body = fed(CHUNKED + b"1\r\na\r\n0\r\n\r\nmore")
    assert body == b"a"
    assert answer.ended and not answer.reusable


@pytest.mark.parametrize("framing", [b"a: b", b"transfer-encoding: gzip"])
def test_a_body_may_end_with_the_connection(framing):
    answer, body = fed(HEAD % framing + b"a")
    assert body == b"a" and not answer.ended
    assert answer.feed(b"") == b"" and answer.ended and not answer.reusable


@pytest.mark.parametrize("received", [b"", b"HTTP/1.1 200 OK\r\na: b\r\n", HEAD % b"content-length: 1"])
def test_other_answers_do_not(received):
    answer = ResponseParser()
    if received:
        answer.feed(received)
    with pytest.raises(UpstreamBroken):
        answer.feed(b"")


# ------------------------------------------------------------------------------------------------------ accumulator
@given(st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_no_event_is_too_odd_to_be_followed(content):
    events = ResponseAccumulator({})
    events.add_events(b'data: {"type":"response.created"}\n\n')
    for data in (content, {"type": content}, {"type": "response.completed", "response": content}):
        odd = sse.encode("response.output_item.done", jsontext.dumps(data))
        assert events.add_events(odd) == odd
    assert parse(events.fail("code", "message"))[-1]["type"] == "response.failed"


@pytest.mark.parametrize("line", [b"event: %s", b"event:%s"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_event_may_be_named_by_its_event_line_alone(line, end):
    def named(name, data):
        return line % name + end + b"data: " + jsontext.dumps(data) + end + end

    events = ResponseAccumulator({})
    item = message_item("one")
    events.add_events(named(b"response.output_item.done", {"output_index": 0, "item": item}))
    events.add_events(named(b"error", {"message": "Careful."}))
    assert events.failure.message == "Careful."
    events.add_events(named(b"response.completed", {"response": {"status": "completed"}}))
    assert events.terminal == "response.completed" and events.response["output"] == [item]


def test_a_name_within_a_longer_one_does_not_matter():
    names = (b"xresponse.completed", b"response.completed.x", b"my.error", b"xerror", b"response.made_up.delta")
    odd = b"".join(b'data: {"type":"%s","response":{}}\n\n' % name for name in names)
    events = ResponseAccumulator({}, rewrite=False)
    assert events.add_events(odd) == odd
    assert (events.terminal, events.failure) == (None, None)


def test_a_failure_continues_the_numbers_and_the_response():
    events = ResponseAccumulator({"id": "resp_9"})
    events.add_events(event("response.created", sequence_number=0, response=response(metadata={"a": "b"})))
    item = message_item("one")
    for number, kind in ((3, "added"), (4, "done")):
        events.add_events(event(f"response.output_item.{kind}", sequence_number=number, output_index=0, item=item))
    events.add_events(event("response.made_up.delta", sequence_number=5, delta='"sequence_number":99'))
    error, failed = parse(events.fail("code", "message"))
    assert (error["sequence_number"], failed["sequence_number"]) == (6, 7)
    expected = {"id": "resp_9", "metadata": {"a": "b"}, "status": "failed", "output": [item]}
    assert {name: failed["response"][name] for name in expected} == expected


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, (0, 0, 0, 0)),
        ({}, (0, 0, 0, 0)),
        ({"input_tokens": 7, "input_tokens_details": {"cached_tokens": 3}, "output_tokens": 5}, (7, 3, 5, 0)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}, (7, 2, 5, 0)),
        ({"input_tokens": 7, "total_tokens": 12, "output_tokens_details": {"reasoning_tokens": 4}}, (7, 0, 5, 4)),
        ({"output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 4}}, (0, 0, 0, 0)),
        ({"input_tokens": "7", "input_tokens_details": None, "output_tokens": 5}, (0, 0, 0, 0)),
        ({"input_tokens": -7, "input_tokens_details": {"cached_tokens": 2**70}, "output_tokens": 1.5}, (0, 0, 0, 0)),
    ],
)
def test_usage(usage, counts):
    assert usage_of({"usage": usage}) == counts


# --------------------------------------------------------------------------------------------------------------- JSON
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)  # fmt: skip


@given(JSON)
def test_json_survives_the_way_through(value):
    assert jsontext.loads(json.dumps(value).encode()) == value
    assert jsontext.loads(jsontext.dumps(value)) == value


@given(st.text(st.characters(exclude_categories=[])))
def test_text_for_headers_is_ascii(text):
    assert jsontext.ascii_text({"a": text}).isascii()
    assert json.loads(jsontext.ascii_text({"a": text})) == {"a": text}


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b'[NaN, "\\ud83d"]', b"\xff", b'"\xff\\ud83d"', b"[" * 10**5])
def test_what_is_no_json_is_a_value_error(data):
    with pytest.raises(ValueError):
        jsontext.loads(data)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"":', b"}")])
def test_how_deep_json_may_be_nested(opening, closing):
    deepest = opening * (MAX_LEVELS - 1) + b"[]" + closing * (MAX_LEVELS - 1)
    assert jsontext.dumps(jsontext.loads(deepest)) == deepest
    with pytest.raises(ValueError):
        jsontext.loads(b"[" + deepest + b"]")


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"":', b"}")])
def test_brackets_beside_each_other_and_in_texts_are_no_levels(opening, closing):
    flat = b"[" + b",".join([opening + b"1" + closing] * 1000) + b',"%s"]' % (b"[{" * 1000)
    assert jsontext.dumps(jsontext.loads(flat)) == flat
    levels = b"[1,%s[]%s]" % (opening * MAX_LEVELS, closing * MAX_LEVELS)
    with pytest.raises(ValueError, match="too deep"):
        jsontext.loads(b"[%s,%s]" % (flat, levels))


@given(st.lists(st.integers(-(10**30), 10**30) | st.text() | st.just("\ud83d")))
def test_parsing_texts_together_is_parsing_each(values):
    texts = [jsontext.dumps(value) for value in values]
    assert jsontext.loads_many(texts) == [jsontext.loads(text) for text in texts]


@pytest.mark.parametrize("beside", [b"", b',"\\ud83d"'])
@pytest.mark.parametrize("digits", [b"9" * 19, b"9" * 20, b"-" + b"9" * 19, b"9" * 25, b"9" * 300])
def test_integers_mean_the_same_whatever_stands_beside_them(digits, beside):
    assert jsontext.loads(b"[%s%s]" % (digits, beside))[0] == jsontext.loads(digits)


@pytest.mark.parametrize("beside", [b"", b',"\\ud83d"'])
def test_an_integer_beyond_all_numbers_is_refused(beside):
    with pytest.raises(ValueError):
        jsontext.loads(b"[%s%s]" % (b"9" * 400, beside))
