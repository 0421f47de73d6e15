"""Large events do not delay other streams, whatever they contain and however slowly their client reads."""

import os
import queue

import pytest

from floway_core.engine.answer_stream import LARGE_BLOCK_BYTES
from floway_core.testing import Reply, RunningGateway, event, message_stream, write_plugin
from floway_core.testing.events import DONE

from ..support.stored_upstreams import add_upstreams
from .raw_client import connect, read_until, request, wait_for

FIRST, *_, LAST = EVENTS = message_stream()
BEGINNING, NEXT_DELTA, REST = EVENTS[:4], EVENTS[4], EVENTS[5:]
LARGE_DELTA = NEXT_DELTA.replace(b'"delta":"', b'"delta":"' + b"x" * LARGE_BLOCK_BYTES)
SIZE = 20_000_000

PLANTED = '''"""Holds the parser of large blocks until the test lets it go, and tells which threads work for streams."""

import sys
import threading

from flask import Blueprint

from floway_core.engine.answer_stream import LARGE_BLOCK_BYTES
from floway_core.hookspecs import hookimpl
from floway_core.protocol import accumulator
from floway_core.server.exchange import ClientExchange

parse_events, parse_usual_event = accumulator.parse_events, accumulator.parse_usual_event
go_on, parsed = threading.Event(), []


def parse_slowly(block, *options, **named):
    is_large = len(block) >= LARGE_BLOCK_BYTES
    parsed.append([threading.current_thread().name, is_large])
    assert not is_large or go_on.wait(60)
    return parse_events(block, *options, **named)


def parse_delta(block, beginning):
    delta = parse_usual_event(block, beginning)
    if delta:
        parsed.append([threading.current_thread().name, False])
    return delta


accumulator.parse_events, accumulator.parse_usual_event = parse_slowly, parse_delta


def count_senders():
    """Return how many threads are sending a response."""
    frames = sys._current_frames().values()
    return sum(any(frame.f_code is ClientExchange.send.__code__ for frame in callers(frame)) for frame in frames)


def callers(frame):
    while frame:
        yield frame
        frame = frame.f_back


def release():
    go_on.set()
    return {}


@hookimpl
def register_routes():
    blueprint = Blueprint("planted", __name__)
    blueprint.add_url_rule("/planted", view_func=lambda: {"parsed": parsed, "senders": count_senders()})
    blueprint.add_url_rule("/planted", "release", release, methods=["POST"])
    return [blueprint]
'''


@pytest.fixture
def planted(plugin_folder, tmp_path):
    """A gateway with one worker, whose parser waits in every large block."""
    write_plugin(tmp_path, "planted", PLANTED)
    folders, environ = [plugin_folder, tmp_path], {"TEST_JOURNAL": os.devnull}
    with RunningGateway({"workers": "1"}, plugin_folders=folders, environ=environ) as gateway:
        add_upstreams(gateway, first="wire")
        yield gateway


class Feed:
    """A stream of an upstream that goes on as the test says."""

    def __init__(self, client):
        self._chunks = queue.SimpleQueue()
        self.reply = Reply(iter(self._chunks.get, None))
        self._client = client
        self.stream = None

    def begin(self):
        self.stream = self._client.stream(store=False)
        self.pass_on(*BEGINNING)

    def pass_on(self, *events):
        """Send events, and wait until the client has the last one."""
        self.send(*events)
        self.stream.read_until(events[-1])

    def send(self, *events):
        for item in events:
            self._chunks.put(item)

    def end(self):
        """Send the rest; return what the client has received."""
        self.send(*REST, None)
        return self.stream.body


def test_other_streams_go_on_while_a_large_event_is_parsed(planted, call, fake_upstream):
    """A thread parses it, and gives the stream back to the loop. The parser waits until another stream has ended."""
    ask = call(planted)
    large, other = Feed(ask), Feed(ask)
    fake_upstream.script(large.reply, other.reply)
    large.begin()
    other.begin()
    wait_for(lambda: state(ask)["senders"] == 0)  # the loop has both

    large.send(LARGE_DELTA)
    wait_for(lambda: has_large_block(state(ask)))
    other.pass_on(NEXT_DELTA)
    assert state(ask)["parsed"][-1] == ["streams", False]
    assert other.end().endswith(DONE)
    assert LARGE_DELTA not in large.stream.received

    assert ask.send("POST", "/planted").status == 200
    large.stream.read_until(LARGE_DELTA)
    wait_for(lambda: state(ask)["senders"] == 0)  # its thread is free again
    large.pass_on(NEXT_DELTA)
    assert state(ask)["parsed"][-1] == ["streams", False]
    assert large.end().endswith(DONE)
    assert "streams" not in {thread for thread, is_large in state(ask)["parsed"] if is_large}


def state(client):
    return client.get("/planted").json()


def has_large_block(planted):
    return any(is_large for _, is_large in planted["parsed"])


@pytest.mark.soak  # long: many megabytes
def test_large_events_are_whole_for_a_slow_reader(start, fake_upstream):
    """A thread follows each of them, and gives the stream back."""
    gateway = start(threads="1")
    large = event("response.output_text.delta", sequence_number=1, delta="x" * SIZE)
    fake_upstream.script(Reply([FIRST, large, large, LAST]), Reply(message_stream()))
    with connect(gateway, receive_buffer=2**14) as client:
        client.sendall(request(gateway, fake_upstream.url, stream=True, store=False))
        read_until(client, b"x" * 1000)
        received = bytearray()
        while not received.endswith(DONE + b"\r\n0\r\n\r\n"):
            received += client.recv(2**20)
        assert received.count(b"x") > 2 * SIZE - 100_000
