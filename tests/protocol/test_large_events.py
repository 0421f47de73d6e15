"""Large events are searched and copied by other code than small ones: with the same results, and one at a time."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floway_core.protocol import accumulator, large_blocks, sse
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.testing.events import event

LINES = st.sampled_from(
    [
        b"data: x",
        b"data:y",
        b"data:  z",
        b"data",
        b"event: e",
        b"event:f",
        b"event",
        b"events: g",
        b": c",
        b"id: 3",
        b"",
    ]
)
BLOCKS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\n", b"\r\n"])), max_size=12).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(BLOCKS, LINES)
def test_large_blocks_are_split_and_parsed_like_small_ones(block, rest):
    block += rest
    events = sse.split(block)
    parsed = [sse.parse(part) for part in events]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sse, "LARGE_BYTES", 0)
        assert sse.split(block) == events
        assert [sse.parse(part) for part in events] == parsed


def test_one_block_at_a_time(monkeypatch):
    """While a thread parses a large block, no other one can begin with one."""
    parse_events, results = accumulator.parse_events, []

    def parse(block, *others):
        other = threading.Thread(target=lambda: results.append(large_blocks.LOCK.acquire(blocking=False)))
        other.start()
        other.join()
        return parse_events(block, *others)

    monkeypatch.setattr(accumulator, "parse_events", parse)
    large = event("response.output_text.delta", delta="x" * large_blocks.LARGE_BYTES)
    ResponseAccumulator({}, rewrite=False).add_events(large)
    assert results == [False]
