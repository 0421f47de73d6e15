"""Only events that may state a detail of the account are parsed: with the same result as if all were."""

import itertools
import random
import re

import pytest

from floway_core.engine.account import EventFilter
from floway_core.protocol import jsontext, sse
from floway_core.provider import AccountDetails

DETAILS = AccountDetails(
    headers=("x-account-*",),
    needed_headers=("x-account-turn",),
    response_fields=("safety_identifier",),
    error_fields=("plan_type", "promo"),
    events=("account.*",),
)
VALUES = [None, "secret", 5, "safety_identifier", "plan_type", 'a "headers" of', "account.x", {"plan_type": "pro"}]
CONTENTS = [
    *({"type": "response.output_text.delta", "delta": value} for value in VALUES),
    *({"type": "response.created", "response": {"id": "resp_1", "safety_identifier": value}} for value in VALUES),
    *({"type": "response.failed", "response": {"error": {"code": "x", "plan_type": value}}} for value in VALUES),
    *({"type": "error", "promo": value, "error": {"plan_type": value}} for value in VALUES),
    *({"type": "account.limits", "of": value} for value in VALUES),
    {"type": "response.metadata", "headers": {"X-Account-Id": "a", "x-account-turn": "b", "x-other": "c"}},
    {"type": "response.completed", "response": {"safety_identifier": None, "headers": None, "error": None}},
]


def encodings(content):
    """Yield an event as different upstreams write it."""
    compact = jsontext.dumps(content)
    yield sse.encode(content["type"], compact)
    yield b"data: %b\n\n" % compact
    yield sse.encode(content["type"], compact.replace(b'":', b'" : ')).replace(b"\n", b"\r\n")
    for escaped in (rb'(?<=")[a-z]', rb"[_.]"):
        text = re.sub(escaped, lambda letter: b"\\u%04x" % ord(letter[0]), compact)
        yield b"data: %b\n\n" % text
        yield b"data: %b\n\n" % re.sub(rb"\\u00..", lambda escape: b"\\u" + escape[0][2:].upper(), text)


def test_all_details_are_found():
    events = [event for content in CONTENTS for event in encodings(content)]
    events += [b": comment\n\n", b"event: account.x\ndata: {}\n\n", b'data: {"plan_type"\n\n']
    expected = {event: EventFilter(DETAILS)._filter_event(event) for event in events}
    expected[b"data: [DONE]\n\n"] = b"data: [DONE]\n\n"
    events = list(expected)
    assert sum(event != visible for event, visible in expected.items()) > 50
    pick = random.Random(1)
    singles = [[event] for event in events]
    blocks = [pick.choices(events, k=pick.randrange(2, 6)) for _ in range(2000)]
    for block in itertools.chain(singles, blocks):
        assert EventFilter(DETAILS).feed(b"".join(block)) == b"".join(map(expected.__getitem__, block))


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("line", [b'data: {"type":"x","response":{"safety_identifier":"a"}}', b"event: account.x"])
def test_no_byte_is_searched_twice_for_the_start_of_an_event(monkeypatch, line, end):
    """Or a block in which every event states a detail would take quadratic time."""
    find_bounds, searched = sse.bounds, []

    def bounds(block, position, start=0):
        searched.append(position - start)
        return find_bounds(block, position, start)

    monkeypatch.setattr(sse, "bounds", bounds)
    block = (line + end + end) * 200
    assert b"account" not in EventFilter(DETAILS).feed(block)
    assert len(searched) == 200 and sum(searched) < len(block)
