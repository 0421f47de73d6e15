"""The protocol of WebSockets: what opens and what closes one, and messages of all kinds."""

import functools
import json
import struct

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from floway_core.testing import Reply, Step, event, message_stream
from floway_core.testing.events import response

from ..faults import raw_client
from ..support.websocket_client import UPGRADE


@pytest.fixture
def connect(websocket, gateway):
    """Opens WebSockets."""
    return functools.partial(websocket, gateway)


def held_stream():
    """A stream that stops after its first delta, until the upstream is released."""
    first, *rest = message_stream()
    return [first, *rest[:3], Step.HOLD, *rest[3:]]


def masked(opcode, data, fin=True):
    return Frame(opcode, data, fin).serialize(mask=True)


# ------------------------------------------------------------------------------------------------------------- opening
@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/v1/responses/", "/v1/responses?a=b"])
def test_a_websocket_is_opened_at_each_path(connect, fake_upstream, path):
    fake_upstream.script(Reply(message_stream()))
    client = connect(path=path)
    assert client.connection.response.headers["x-request-id"]
    assert client.turn()["output"][0]["content"][0]["text"] == "Hello there."


def test_compression_is_not_negotiated(connect):
    client = connect(compression="deflate")
    assert "sec-websocket-extensions" not in client.connection.response.headers
    assert client.connection.protocol.extensions == []


@pytest.mark.parametrize(
    "changes",
    [
        {"sec-websocket-version": "8"},
        {"sec-websocket-version": None},
        {"sec-websocket-key": "short"},
        {"sec-websocket-key": None},
        {"connection": "keep-alive"},
        {"content-length": "5"},
        {"transfer-encoding": "chunked"},
    ],
)
def test_an_upgrade_that_is_not_valid_is_refused(ask, refused, changes):
    body = b"" if "content-length" not in changes else b"12345"
    headers = {name: value for name, value in {**UPGRADE, **changes}.items() if value is not None}
    if "transfer-encoding" in headers:
        body = b"0\r\n\r\n"
    refused(ask.send("GET", "/v1/responses", body or None, headers), 400, "invalid_upgrade")


def test_an_upgrade_needs_a_key(ask, refused):
    refused(ask.send("GET", "/v1/responses", headers={**UPGRADE, "authorization": None}), 401, "invalid_api_key")


def test_what_follows_the_upgrade_at_once_is_taken(gateway, fake_upstream):
    """A client need not wait for the answer to its upgrade. None of the frames is taken for HTTP."""
    fake_upstream.script(Reply(message_stream()))
    lines = ["GET /v1/responses HTTP/1.1", "host: gateway", f"authorization: Bearer {gateway.key}"]
    lines += [f"x-test-upstream: {fake_upstream.url}", *(f"{name}: {value}" for name, value in UPGRADE.items())]
    message = json.dumps({"type": "response.create", "model": "model-1", "input": "Hi"}).encode()
    with raw_client.connect(gateway) as raw:
        raw.sendall("\r\n".join([*lines, "", ""]).encode() + masked(Opcode.TEXT, message))
        received = raw_client.read_until(raw, b'"response.completed"')
    head, _, frames = received.partition(b"\r\n\r\n")
    assert b" 101 " in head and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    assert frames[:1] == b"\x81"


# ------------------------------------------------------------------------------------------------------------ messages
def test_each_event_is_one_message_as_in_a_stream(connect, ask, fake_upstream):
    fake_upstream.script(Reply(message_stream()), Reply(message_stream()))
    posted = ask.post({"model": "model-1", "input": "Hi", "stream": True}).events()
    received = connect().respond()
    assert [one["type"] for one in received] == [one["type"] for one in posted]
    for one in (*posted, *received):
        one.get("response", {}).pop("id", None)
    assert received == posted


def test_several_responses_follow_each_other_on_one_connection(connect, fake_upstream):
    fake_upstream.script(*[Reply(message_stream()) for _ in range(5)])
    client = connect()
    ids = {client.turn(f"Number {number}")["id"] for number in range(5)}
    assert len(ids) == 5


def test_messages_that_arrive_while_a_response_runs_wait(connect, fake_upstream):
    fake_upstream.script(Reply(held_stream()), Reply(message_stream()), Reply(message_stream()))
    client = connect()
    for given in ("first", "second", "third"):
        client.create(given)
    fake_upstream.wait_for_request(1).held.wait(60)
    client.connection.ping().wait(20)  # all three have been received
    assert len(fake_upstream.requests) == 1
    fake_upstream.release.set()
    ended = [client.receive_until("response.completed")[-1] for _ in range(3)]
    assert len({one["response"]["id"] for one in ended}) == 3
    told = [json.loads(request.body)["input"][0]["content"][0]["text"] for request in fake_upstream.requests]
    assert told == ["first", "second", "third"]


def test_too_many_waiting_messages_are_refused_and_the_running_response_goes_on(connect, fake_upstream):
    fake_upstream.script(Reply(held_stream()), *[Reply(message_stream()) for _ in range(8)])
    client = connect()
    client.create("first")
    fake_upstream.wait_for_request(1).held.wait(60)
    for number in range(9):
        client.create(f"waiting {number}")
    error = client.receive_until("error")[-1]
    assert (error["status"], error["error"]["code"]) == (429, "too_many_messages")
    fake_upstream.release.set()
    for _ in range(9):
        client.receive_until("response.completed")


@pytest.mark.parametrize("size", [1, 50])
def test_a_message_may_come_in_fragments(connect, fake_upstream, size):
    fake_upstream.script(Reply(message_stream()))
    client = connect()
    message = json.dumps({"type": "response.create", "model": "model-1", "input": "Grüße"}, ensure_ascii=False).encode()
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    for number, piece in enumerate(pieces):  # some of them end within a character
        client.send_bytes(masked(Opcode.CONT if number else Opcode.TEXT, piece, fin=number == len(pieces) - 1))
        if number == 0:
            client.send_bytes(masked(Opcode.PING, b"between"))
            client.send_bytes(masked(Opcode.CONT, b"", fin=False))
    client.receive_until("response.completed")
    assert "Grüße" in fake_upstream.requests[0].body.decode()


def test_text_that_is_not_ascii_arrives(connect, fake_upstream):
    fake_upstream.script(Reply(message_stream("\u2028 ü 😀")))
    assert connect().turn()["output"][0]["content"][0]["text"] == "\u2028 ü 😀"


def test_what_is_no_event_of_a_response_is_left_out(connect, fake_upstream):
    first, *rest = message_stream()
    odd = [b": comment\n\n", b"data: no JSON\n\n", b'event: response.odd\ndata: {"a":1}\n\n', b"data: [1]\n\n"]
    fake_upstream.script(Reply([first, *odd, *rest]))
    types = [one["type"] for one in connect().respond()]
    assert types[:2] == ["response.created", "response.odd"] and types[-1] == "response.completed"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("others", [b"", b": a comment\n\n"])
def test_an_event_with_its_data_in_several_lines_is_one_message(connect, fake_upstream, others, end):
    content = {"type": "response.made_up", "x": 1}
    event = b'event: response.made_up\ndata: {"type":"response.made_up",\ndata: "x":1}' + end
    first, *rest = message_stream()
    fake_upstream.script(Reply([first, event + others, *rest]), Reply([b"".join([first, event, others, *rest])]))
    client = connect()
    assert [content in client.respond() for _ in range(2)] == [True, True]


def test_invalid_utf_8_of_the_upstream_becomes_valid(connect, fake_upstream):
    first, *rest = message_stream()
    bad = event("response.odd", text="x").replace(b'"x"', b'"\xff"')
    fake_upstream.script(Reply([first, bad, *rest]))
    assert connect().respond()[1] == {"type": "response.odd", "text": "\ufffd"}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "invalid_json"),
        ("hello", "invalid_json"),
        ("[]", "invalid_json"),
        ('"response.create"', "invalid_json"),
        ('{"type":', "invalid_json"),
        ("{}", "unsupported_message_type"),
        ('{"type": 5}', "unsupported_message_type"),
        ('{"type": null, "model": "model-1", "input": "Hi"}', "unsupported_message_type"),
        ('{"type": "session.update"}', "unsupported_message_type"),
        ('{"type": "response.append", "input": "Hi"}', "unsupported_message_type"),
        ('{"type": "response.steer", "previous_response_id": "resp_1", "input": "x"}', "steering_not_supported"),
        ('{"type": "response.interrupt"}', "response_not_active"),
        ('{"type": "response.cancel", "response_id": "resp_1"}', "response_not_active"),
        ('{"type": "response.create", "model": "model-1", "input": "Hi", "stream_id": "a"}', "unsupported_parameter"),
        ('{"type": "response.create", "input": "Hi"}', "missing_required_parameter"),
        ('{"type": "response.create", "model": 5, "input": "Hi"}', "invalid_type"),
        ('{"type": "response.create", "response": 5}', "missing_required_parameter"),
    ],
)
def test_a_message_that_cannot_be_served_gets_an_error_and_the_connection_goes_on(
    connect, fake_upstream, message, code
):
    fake_upstream.script(Reply(message_stream()))
    client = connect()
    client.connection.send(message)
    error = client.receive()
    assert (error["type"], error["status"], error["error"]["code"]) == ("error", 400, code)
    assert set(error["error"]) == {"message", "type", "param", "code"} and error["headers"]["x-request-id"]
    client.turn()


def test_the_fields_may_stand_in_a_response_object(connect, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    client = connect()
    client.send(type="response.create", event_id="event_1", response={"model": "model-1", "input": "Hi"})
    client.receive_until("response.completed")
    body = json.loads(fake_upstream.requests[0].body)
    assert not {"type", "event_id", "response", "generate"} & set(body) and body["stream"] is True


def test_an_error_of_the_upstream_comes_with_its_status_and_headers(connect, fake_upstream):
    error = {"message": "Slow down.", "type": "requests", "param": None, "code": "rate_limit_exceeded", "extra": 1}
    content = json.dumps({"error": error}).encode()
    fake_upstream.script(Reply([content], 429, [("content-type", "application/json"), ("retry-after", "7")]))
    received = connect().respond()
    assert received[0]["status"] == 429 and received[0]["error"] == error
    assert received[0]["headers"]["retry-after"] == "7"


def test_a_response_that_fails_leaves_the_connection_open(connect, fake_upstream):
    fake_upstream.script(Reply([*message_stream()[:4], Step.RESET]), Reply(message_stream()))
    client = connect()
    client.create()
    assert client.receive_until("response.failed")[-2]["type"] == "error"
    client.turn()


def test_headers_of_the_answer_come_to_clients_that_ask_for_them(connect, fake_upstream):
    reply = [("content-type", "text/event-stream"), ("x-upstream-quota", "5")]
    fake_upstream.script(Reply(message_stream(), 200, reply))
    metadata = connect({"openai-beta": "responses_websockets=2026-02-06"}).respond()[0]
    assert metadata["type"] == "response.metadata"
    assert metadata["headers"]["x-upstream-quota"] == "5" and "content-type" not in metadata["headers"]


# ---------------------------------------------------------------------------------------------------------- interrupts
@pytest.mark.parametrize("kind", ["response.interrupt", "response.cancel"])
@pytest.mark.parametrize("names_it", [True, False])
def test_a_running_response_can_be_interrupted(connect, fake_upstream, kind, names_it):
    whole = {"id": "msg_0", "type": "message", "role": "assistant", "status": "completed"}
    whole["content"] = [{"type": "output_text", "text": "Whole.", "annotations": []}]
    begun = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    events = [
        event("response.created", response=response()),
        event("response.output_item.added", output_index=0, item={**whole, "content": []}),
        event("response.output_item.done", output_index=0, item=whole),
        event("response.output_item.added", output_index=1, item=begun),
    ]
    fake_upstream.script(Reply([*events, Step.HOLD]), Reply(message_stream()))
    client = connect()
    client.create("Begin", store=False)
    created = client.receive()["response"]
    while client.receive().get("item") != begun:
        pass
    client.send(type=kind, **({"response_id": created["id"], "mode": "discard_partial_items"} if names_it else {}))
    ended = client.receive_until("response.incomplete")[-1]["response"]
    assert (ended["id"], ended["status"]) == (created["id"], "incomplete")
    assert ended["incomplete_details"] == {"reason": "interrupted"}
    assert [item["id"] for item in ended["output"]] == ["msg_0"]
    assert fake_upstream.requests[0].peer_gone.wait(60)
    client.turn("Other", previous_response_id=ended["id"])
    sent = json.loads(fake_upstream.requests[1].body)["input"]
    texts = [item["content"][0]["text"] for item in sent]
    assert texts == ["Begin", "Whole.", "Other"]


def test_an_interrupt_of_what_has_just_ended_changes_nothing(connect, fake_upstream):
    fake_upstream.script(Reply(message_stream()), Reply(message_stream()))
    client = connect()
    ended = client.turn()
    client.send(type="response.interrupt", response_id=ended["id"])
    client.turn()


def test_an_interrupt_of_something_else_is_refused(connect, fake_upstream):
    fake_upstream.script(Reply(held_stream()))
    client = connect()
    client.create()
    client.receive()
    client.send(type="response.interrupt", response_id="resp_other")
    error = client.receive_until("error")[-1]
    assert (error["status"], error["error"]["code"]) == (400, "response_not_active")
    fake_upstream.release.set()
    client.receive_until("response.completed")


# ------------------------------------------------------------------------------------------------------ control frames
def test_pings_are_answered_while_the_upstream_thinks(connect, fake_upstream):
    fake_upstream.script(Reply(message_stream(), before=[Step.HOLD]))
    client = connect()
    client.create()
    fake_upstream.wait_for_request(1).held.wait(60)
    assert client.connection.ping("are you there").wait(20)
    fake_upstream.release.set()
    client.receive_until("response.completed")


def test_a_close_is_answered_with_its_code(connect):
    client = connect()
    client.connection.close(1000, "Done.")
    assert client.connection.protocol.close_rcvd.code == 1000


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(Opcode.BINARY, b"{}"), 1003),
        (masked(Opcode.BINARY, b"{", fin=False), 1003),
        (masked(Opcode.TEXT, b'{"a": "\xff"}'), 1007),
        (masked(Opcode.TEXT, b"\xed\xa0\x80"), 1007),
        (masked(Opcode.CONT, b"{}"), 1002),
        (masked(Opcode.TEXT, b"{", fin=False) + masked(Opcode.TEXT, b"}"), 1002),
        (Frame(Opcode.TEXT, b"{}").serialize(mask=False), 1002),
        (b"\xc1\x80aaaa", 1002),  # a reserved bit, that of compression
        (b"\x83\x80aaaa", 1002),  # an opcode that does not exist
        (b"\x89\xfe\x00\x80aaaa" + b"x" * 128, 1002),  # a ping that is too long
        (b"\x09\x80aaaa", 1002),  # a ping in fragments
        (masked(Opcode.CLOSE, b"\x03\xe8\xff"), 1007),
        (masked(Opcode.CLOSE, b"\x00"), 1002),
        (b"\x81\xff" + struct.pack("!Q", 2**20 + 1) + b"aaaa", 1009),
        (b"\x81\xff" + struct.pack("!Q", 2**63) + b"aaaa", 1009),
        (masked(Opcode.TEXT, b" " * 2**19, fin=False) * 1 + masked(Opcode.CONT, b" " * (2**19 + 1), fin=False), 1009),
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", 1002),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",  # masks are random
)
def test_what_breaks_the_protocol_closes_the_connection(connect, data, code):
    client = connect()
    client.send_bytes(data)
    assert client.close_code() == code


def test_fragments_without_end_are_limited(connect):
    client = connect()
    client.send_bytes(masked(Opcode.TEXT, b"{", fin=False))
    piece = masked(Opcode.CONT, b" " * 2**16, fin=False)
    with pytest.raises((ConnectionClosed, OSError)):
        for _ in range(1000):
            client.send_bytes(piece)
            client.connection.ping()
    assert client.close_code() == 1009


def test_the_largest_message_is_taken(connect, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    client = connect()
    beginning = '{"type":"response.create","model":"model-1","input":"'
    client.connection.send(beginning + "x" * (2**20 - len(beginning) - 2) + '"}')
    client.receive_until("response.completed")


def test_the_connection_is_not_reused_for_http(connect, ask):
    client = connect()
    client.send_bytes(masked(Opcode.CLOSE, struct.pack("!H", 1000)) + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    assert client.close_code() == 1000
    assert ask.get("/healthz").status == 200
