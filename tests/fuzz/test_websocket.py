"""WebSockets with odd frames and messages: each gets an answer or a close, and nothing breaks."""

import contextlib
import json
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from floway_core.testing import FakeUpstream, Reply, message_stream
from floway_core.testing.fuzz import examples

from ..faults import raw_client
from ..support.websocket_client import UPGRADE, WebSocketClient, is_last

CREATE = json.dumps({"type": "response.create", "model": "model-1", "input": "Hi"}).encode()
INTERRUPTS = ("response.cancel", "response.interrupt")
MARKER = "resp_that_does_not_exist"
CLOSE = Frame(Opcode.CLOSE, struct.pack("!H", 1000)).serialize(mask=True)


@pytest.fixture(scope="module")
def upstream():
    with FakeUpstream() as made:
        made.answer_always("/answers", Reply(message_stream()))
        yield made


@pytest.fixture(scope="module")
def attempt(gateway, upstream):
    """Sends bytes on a new WebSocket, and returns the messages and the close code that came until its end."""
    start = len(gateway.log)
    (worker,) = gateway.workers

    def send(data, hangs_up=False):
        lines = ["GET /v1/responses HTTP/1.1", "host: gateway", f"authorization: Bearer {gateway.key}"]
        lines += [f"x-test-upstream: {upstream.url}", *(f"{name}: {value}" for name, value in UPGRADE.items())]
        with raw_client.connect(gateway) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            _, _, received = raw_client.read_until(connection, b"\r\n\r\n").partition(b"\r\n\r\n")
            with contextlib.suppress(OSError):  # it may have been closed meanwhile
                connection.sendall(data)
                if hangs_up:
                    connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(2**16):
                    received += piece
        return received

    yield send
    assert gateway.workers == [worker]
    assert "Traceback" not in gateway.log[start:]


def parse(received):
    """The messages and the close code in what a server sent; fails if it breaks the protocol."""
    protocol = ClientProtocol(parse_uri("ws://gateway/"), state=OPEN, max_size=None)
    protocol.receive_data(received)
    assert protocol.parser_exc is None, protocol.parser_exc
    frames = protocol.events_received()
    assert all(frame.fin for frame in frames)
    messages = [json.loads(frame.data) for frame in frames if frame.opcode is Opcode.TEXT]
    closed = [struct.unpack("!H", frame.data[:2])[0] for frame in frames if frame.opcode is Opcode.CLOSE and frame.data]
    return messages, closed


def _frame(opcode, data, fin, mask, rsv):
    """A frame, which need not be a valid one."""
    size = len(data)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
    head = bytes([(0x80 if fin else 0) | rsv | opcode, length[0] | (0x80 if mask else 0)]) + length[1:]
    return head + (b"\0\0\0\0" if mask else b"") + data


frames = st.builds(
    _frame,
    st.sampled_from([0, 1, 1, 1, 2, 8, 9, 10, 3, 11]),
    st.one_of(st.binary(max_size=200), st.just(CREATE), st.sampled_from([b"{}", b"", CREATE[:20]])),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([True] * 9 + [False]),
    st.sampled_from([0] * 9 + [0x40]),
)


@examples(60)
@given(st.lists(frames, max_size=12))
def test_frames_of_all_kinds(attempt, sent):
    messages, closed = parse(attempt(b"".join(sent) + CLOSE))
    assert all(isinstance(message["type"], str) for message in messages)
    assert len(closed) <= 1 and not {1011, 1005, 1006}.intersection(closed)


@examples(40)
@given(st.binary(max_size=2000))
def test_bytes_that_are_no_frames(attempt, sent):
    parse(attempt(sent, hangs_up=True))


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
messages = st.fixed_dictionaries(
    {"type": st.one_of(st.sampled_from(["response.create"] * 6 + ["response.cancel", "response.steer", "x"]), values)},
    optional={
        "model": st.one_of(st.just("model-1"), values),
        "input": st.one_of(st.just("Hi"), values),
        "generate": st.one_of(st.booleans(), values),
        "store": values,
        "stream": values,
        "stream_id": values,
        "response": values,
        "response_id": values,
        "previous_response_id": values,
        "client_metadata": values,
        "event_id": values,
    },
)


@examples(60)
@given(st.lists(messages, min_size=1, max_size=3))
def test_messages_of_all_kinds_each_get_an_answer(attempt_message, sent):
    for message in sent:
        answers = [event for event in attempt_message(message) if is_last(event)]
        # What ends a response needs no answer if the response before it is just ending.
        assert len(answers) == 1 or (message["type"] in INTERRUPTS and not answers), answers
        for refused in (answer for answer in answers if answer["type"] == "error"):
            assert 400 <= refused["status"] < 500, refused
            assert set(refused["error"]) == {"message", "type", "param", "code"}


@pytest.fixture(scope="module")
def attempt_message(gateway, upstream):
    """Sends a message, and returns the events that come until a second one, whose answer is known, gets its answer."""
    client = WebSocketClient(gateway, {"x-test-upstream": upstream.url})

    def send(message):
        client.connection.send(json.dumps(message))
        client.create(previous_response_id=MARKER)
        events = [client.receive()]
        while MARKER not in str(events[-1].get("error")):
            events.append(client.receive())
        return events[:-1]

    yield send
    client.drop()
