"""Streams that are written in another framing than that of events."""

import json

import pytest

from floway_core.dialect import JSON_ARRAY
from floway_core.engine.framing import StreamFramer

EVENTS = [
    b'data: {"a": 1}\n\n',
    b'event: x\r\ndata: {"b":\r\ndata: 2}\r\n\r\n',
    b": a comment\n\n",
    b'{"error": {"code": 5}}\n',
]


@pytest.mark.parametrize("whole", [True, False])
def test_the_data_of_each_event_is_an_element(whole):
    """A JSON object that is no event is one, too; comments are none."""
    framer = StreamFramer(JSON_ARRAY)
    blocks = [b"".join(EVENTS)] if whole else EVENTS
    written = b"".join(framer.frame(block) for block in blocks) + framer.frame(b"", is_last=True)
    assert json.loads(written) == [{"a": 1}, {"b": 2}, {"error": {"code": 5}}]
    assert framer.frame(b"", is_last=True) == b"", "it has ended"


def test_nothing_is_written_before_there_is_something():
    """So that keep-alives may come first."""
    framer = StreamFramer(JSON_ARRAY)
    assert framer.frame(b"") == b""
    assert json.loads(JSON_ARRAY.keepalive + framer.frame(EVENTS[0]) + framer.frame(b"", is_last=True)) == [{"a": 1}]


def test_a_stream_without_elements_is_an_empty_array():
    assert json.loads(StreamFramer(JSON_ARRAY).frame(b"", is_last=True)) == []
