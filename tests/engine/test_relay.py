"""Streaming: the upstream's bytes reach the client unchanged and without delay."""

import gzip
import json
import re
import zlib

import pytest
import zstandard

from floway_core.testing import Reply, Step, event, items_stream, message_item, message_stream
from floway_core.testing.events import DONE, function_call_item, parse, renamed, response

PATIENCE = 60
TEXT = 'Grüße, 😀 \u2028 line\u2029 and \x85\x0b\x1c\u0000 \\n " [DONE] response.completed event: error'
STREAM = b"".join(message_stream(TEXT, pieces=9))
COMMENTED = b": welcome\n\n" + STREAM.replace(b"\n\n", b"\n\n: ping\n\n", 4)
CRLF = STREAM.replace(b"\n", b"\r\n")
ODD_FIELDS = STREAM.replace(
    b"event: response.output_text.delta\n", b"id: 7\nretry: 10\nevent:response.output_text.delta\n"
)
NAMELESS = re.sub(rb"(?m)^event: .*\n", b"", STREAM)


def cut_every(size):
    return lambda stream: [stream[at : at + size] for at in range(0, len(stream), size)]


CUTTINGS = {
    "at once": lambda stream: [stream],
    "event by event": lambda stream: re.findall(rb"(?s).+?\r?\n\r?\n", stream),
    "in the middle of events": cut_every(97),
    "inside boundaries": lambda stream: re.findall(rb"(?s).+?\n(?=\r?\n)|.+", stream),
    "inside characters": lambda stream: re.split(rb"(?<=[\xc3\xf0\xe2])", stream),
    "byte by byte": cut_every(1),
}


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("cutting", CUTTINGS)
@pytest.mark.parametrize(
    "stream", [STREAM, COMMENTED, CRLF, ODD_FIELDS, NAMELESS], ids=["plain", "comments", "crlf", "fields", "nameless"]
)
def test_a_stream_is_relayed_byte_for_byte(ask, fake_upstream, stream, cutting, framing):
    chunks = CUTTINGS[cutting](stream)
    assert b"".join(chunks) == stream
    fake_upstream.script(Reply(chunks, framing=framing))
    answer = ask.stream(store=False)
    assert answer.status == 200
    assert renamed(answer.body) == stream + DONE
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"


def test_an_event_leaves_before_the_next_one_is_there(ask, fake_upstream):
    first, *others = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD, *others]))
    answer = ask.stream(store=False)
    assert renamed(answer.read_until(b"\n\n")) == first
    fake_upstream.release.set()
    assert renamed(answer.body) == b"".join([first, *others]) + DONE


def test_an_incomplete_event_waits_for_its_end(ask, fake_upstream):
    first, second, *others = message_stream()
    fake_upstream.script(Reply([first + second[:20], Step.HOLD, second[20:], *others]))
    answer = ask.stream(store=False)
    assert renamed(answer.read_until(b"\n\n")) == first
    fake_upstream.release.set()
    assert renamed(answer.body) == b"".join([first, second, *others]) + DONE


@pytest.mark.parametrize("end", [[], [DONE], [Step.CUT]], ids=["as it should", "with DONE", "cut"])
@pytest.mark.parametrize("together", [True, False])
def test_after_the_terminal_event_comes_one_done(ask, fake_upstream, end, together):
    chunks = message_stream()
    chunks = [b"".join(chunks + [c for c in end if c is not Step.CUT])] if together else [*chunks, *end]
    fake_upstream.script(Reply(chunks))
    assert renamed(ask.stream(store=False).body) == b"".join(message_stream()) + DONE


def test_the_answer_ends_although_the_upstream_stays(ask, fake_upstream):
    fake_upstream.script(Reply([*message_stream(), Step.HOLD, b": never seen\n\n"]))
    assert renamed(ask.stream(store=False).body) == b"".join(message_stream()) + DONE
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)


def test_an_incomplete_response_is_a_clean_end(ask, fake_upstream):
    told = response("incomplete", incomplete_details={"reason": "max_output_tokens"})
    chunks = [message_stream()[0], event("response.incomplete", sequence_number=1, response=told)]
    fake_upstream.script(Reply(chunks))
    assert renamed(ask.stream(store=False).body) == b"".join(chunks) + DONE


@pytest.mark.parametrize("together", [True, False])
def test_an_output_that_was_left_out_is_put_in(ask, fake_upstream, together):
    chunks = message_stream(TEXT, empty_output=True, custom={"any": "thing"})
    fake_upstream.script(Reply([b"".join(chunks)] if together else chunks))
    answer = ask.stream(store=False)
    assert renamed(answer.body).startswith(b"".join(chunks[:-1])) and answer.body.endswith(DONE)
    (whole,) = message_stream(TEXT, custom={"any": "thing"})[-1:]
    assert parse(renamed(answer.body))[-1] == json.loads(whole.split(b"data: ")[1])


@pytest.mark.parametrize("left", [None, [], [message_item("one", id="msg_0")]], ids=["null", "empty", "shorter"])
def test_items_are_put_in_by_their_index_not_by_the_time_they_closed(ask, fake_upstream, left):
    items = [message_item(text, id=f"msg_{number}") for number, text in enumerate(["one", "two", "three"])]
    closed = [
        event("response.output_item.done", sequence_number=number, output_index=index, item=items[index])
        for number, index in enumerate([2, 0, 1])
    ]
    end = event("response.completed", sequence_number=3, response=response("completed") | {"output": left})
    fake_upstream.script(Reply([*closed, end]))
    assert ask.stream(store=False).events()[-1]["response"]["output"] == items


def test_items_end_as_they_were_streamed(ask, fake_upstream):
    items = [message_item("as streamed", id="msg_0"), message_item("only told", id="msg_1")]
    told = response("completed", output=[message_item("as told", id="msg_0"), items[1]])
    fake_upstream.script(Reply([*items_stream(items[:1])[:-1], event("response.completed", response=told)]))
    assert ask.stream(store=False).events()[-1]["response"]["output"] == items


def test_the_response_has_one_id_of_the_gateways_own(ask, fake_upstream):
    fake_upstream.script(*[Reply(message_stream("resp_1 said so", id="resp_1"))] * 2)
    ids = []
    for _ in range(2):
        events = ask.stream(store=False).events()
        (own,) = {told["response"]["id"] for told in events if "response" in told}
        ids.append(own)
        assert events[-1]["response"]["output"] == [message_item("resp_1 said so")]
    assert len(set(ids)) == 2 and all(re.fullmatch("resp_[0-9a-f]{32}", own) for own in ids)


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_an_answer_in_one_piece_becomes_events(ask, fake_upstream, framing):
    items = [message_item("Hello"), function_call_item("f", "{}")]
    content = json.dumps(response("completed", output=items)).encode()
    fake_upstream.script(
        Reply([content[:9], content[9:]], headers=[("content-type", "application/json")], framing=framing)
    )
    answer = ask.stream(store=False)
    events = parse(renamed(answer.body))
    assert answer.headers.get_content_type() == "text/event-stream" and answer.body.endswith(DONE)
    assert [told["sequence_number"] for told in events] == list(range(len(events)))
    assert [told["item"] for told in events if told["type"] == "response.output_item.done"] == items
    assert "".join(told["delta"] for told in events if told["type"] == "response.output_text.delta") == "Hello"
    assert events[-1]["response"] == response("completed", output=items)


def test_while_the_upstream_is_silent_the_client_gets_comments(call, start_wired, fake_upstream):
    first, *others = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD, *others]))
    answer = call(start_wired(keepalive_interval="0.05")).stream(store=False)
    assert renamed(answer.read_until(b": keepalive\n\n" * 2)).startswith(first + b": keepalive\n\n")
    fake_upstream.release.set()
    assert renamed(answer.body).replace(b": keepalive\n\n", b"") == b"".join([first, *others]) + DONE


@pytest.mark.parametrize("stream", [True, False])
def test_which_headers_of_the_upstream_are_relayed(ask, fake_upstream, stream):
    passed = [
        ("x-ratelimit-remaining-requests", "41"),
        ("X-Made-Up", "1"),
        ("x-made-up", "2"),
        ("retry-after", "7"),
        ("openai-processing-ms", "12"),
    ]
    kept = [
        ("set-cookie", "session=secret"),
        ("server", "upstream/1"),
        ("x-request-id", "req_upstream"),
        ("cf-ray", "abc"),
        ("via", "1.1 edge"),
        ("strict-transport-security", "max-age=1"),
        ("connection", "keep-alive"),
    ]
    head = [("content-type", "text/event-stream"), *passed, *kept]
    fake_upstream.script(Reply(message_stream(), headers=head))
    headers = ask.create(stream=stream).headers
    assert headers.get_all("x-made-up") == ["1", "2"]
    assert all(value in headers.get_all(name, []) for name, value in passed)
    assert not [(name, value) for name, value in kept if value in headers.get_all(name, []) and name != "connection"]


FOREIGN = {
    "leads elsewhere": ["location", "refresh", "link", "content-location", "sourcemap", "allow"],
    "is about the bytes": ["content-disposition", "content-range", "etag", "last-modified", "expires", "age", "pragma"],
    "is about the account": ["set-cookie", "www-authenticate", "authentication-info", "clear-site-data"],
    "is a policy of the origin": [
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "content-security-policy",
        "cross-origin-opener-policy",
        "permissions-policy",
        "reporting-endpoints",
        "strict-transport-security",
        "x-frame-options",
    ],
    "describes the host": ["server", "server-timing", "x-powered-by", "via", "cf-cache-status"],
    "is an order to a proxy": ["x-accel-redirect", "x-accel-expires", "x-sendfile", "x-reproxy-url"],
    "is for the next hop": [
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "alt-svc",
    ],
}


@pytest.mark.parametrize("why", FOREIGN)
@pytest.mark.parametrize("status", [200, 201, 429, 503])
@pytest.mark.parametrize("stream", [True, False])
def test_headers_that_mean_the_upstream_stay_there(ask, fake_upstream, why, status, stream):
    made_up = [(name.title() if status == 429 else name, f"made-up {name}") for name in FOREIGN[why]]
    passed = ("x-ratelimit-remaining-tokens", "7")
    head = [("content-type", "text/event-stream" if status < 300 else "application/json"), *made_up, passed]
    body = message_stream() if status < 300 else [b'{"error": {"message": "No."}}']
    fake_upstream.script(Reply(body, status, head))
    answer = ask.create(stream=stream)
    assert answer.status == (200 if status < 300 else status) and answer.body
    assert answer.headers["x-ratelimit-remaining-tokens"] == "7"
    assert not [value for value in answer.headers.values() if value.startswith("made-up")]


@pytest.mark.parametrize(
    "connection",
    [["close, x-internal, X-Other"], ["x-internal", "close", "X-OTHER"], [" x-internal ,,x-other,\t close"]],
)
@pytest.mark.parametrize("status", [200, 400])
def test_headers_that_connection_names_are_for_the_next_hop(ask, fake_upstream, connection, status):
    head = [("content-type", "text/event-stream"), ("x-internal", "1"), ("X-Other", "2"), ("x-third", "3")]
    head += [("Connection", value) for value in connection]
    fake_upstream.script(Reply(message_stream() if status == 200 else [b"no"], status, head, "close"))
    answer = ask.create()
    assert answer.status == status
    assert [answer.headers[name] for name in ("x-internal", "x-other", "x-third")] == [None, None, "3"]


@pytest.mark.parametrize("kind", [None, "text/event-stream", "Text/Event-Stream; charset=utf-8"])
def test_a_stream_needs_no_content_type_but_if_there_is_one_it_counts(ask, fake_upstream, kind):
    fake_upstream.script(Reply(message_stream(), headers=[("content-type", kind)] if kind else []))
    assert renamed(ask.stream(store=False).body) == b"".join(message_stream()) + DONE


def flushed_zstd(chunks):
    """Each chunk compressed so that it can be read at once."""
    compressor = zstandard.ZstdCompressor().compressobj()
    packed = [compressor.compress(chunk) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for chunk in chunks]
    return [*packed, compressor.flush()]


CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "ZSTD": lambda content: b"".join(flushed_zstd([content[:40], content[40:]])),
    "zstd, gzip": lambda content: gzip.compress(zstandard.compress(content)),
    "identity": bytes,
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_compressed_answer_is_unpacked(ask, fake_upstream, coding, stream):
    packed = CODINGS[coding](b"".join(message_stream(TEXT)))
    headers = [("content-type", "text/event-stream"), ("content-encoding", coding)]
    fake_upstream.script(Reply([packed[:50], packed[50:]], headers=headers))
    answer = ask.create(stream=stream, store=False)
    assert answer.headers["content-encoding"] is None
    if stream:
        assert renamed(answer.body) == b"".join(message_stream(TEXT)) + DONE
    else:
        assert answer.json()["output"][0]["content"][0]["text"] == TEXT


@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_error_is_unpacked(ask, fake_upstream, coding):
    packed = CODINGS[coding](json.dumps({"error": {"message": "No such tool.", "code": "odd"}}).encode())
    headers = [("content-type", "application/json"), ("content-encoding", coding)]
    fake_upstream.script(Reply([packed], 400, headers))
    answer = ask.create()
    assert (answer.status, answer.json()["error"]["message"]) == (400, "No such tool.")


def test_an_event_of_a_compressed_stream_leaves_before_the_next_one_is_there(ask, fake_upstream):
    first, *others = message_stream()
    packed = flushed_zstd([first, *others])
    headers = [("content-type", "text/event-stream"), ("content-encoding", "zstd")]
    fake_upstream.script(Reply([packed[0], Step.HOLD, *packed[1:]], headers=headers))
    answer = ask.stream(store=False)
    assert renamed(answer.read_until(b"\n\n")) == first
    fake_upstream.release.set()
    assert renamed(answer.body) == b"".join([first, *others]) + DONE


@pytest.mark.parametrize("coding, spoil", [
    ("zstd", lambda packed: packed[:-9]), ("zstd", lambda packed: b"no" + packed), ("br", bytes),
])  # fmt: skip
def test_a_compressed_answer_that_cannot_be_read_is_a_failure(ask, fake_upstream, coding, spoil):
    packed = spoil(zstandard.compress(b"".join(message_stream(TEXT))))
    headers = [("content-type", "text/event-stream"), ("content-encoding", coding)]
    fake_upstream.script(Reply([packed], headers=headers))
    assert ask.create(store=False).status == 502
