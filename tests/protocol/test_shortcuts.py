"""The shortcuts for usual events give what processing every event in full gives, however careless the upstream is."""

import copy
import random
import time

import pytest

from floway_core.protocol import accumulator, event_parser, jsontext, output, sse
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.event_shortcuts import DeltaTarget
from floway_core.protocol.output_item import OutputItem

DELTAS = ["word ", "Grüße", "\ud83d", "\ude00", "", None, 7]
LOCATIONS = [
    ("message", "response.output_text", "content_index"),
    ("reasoning", "response.reasoning_summary_text", "summary_index"),
    ("function_call", "response.function_call_arguments", ""),
]


class Upstream:
    """Makes a random stream. Every second one is careless: fields are missing, repeated or of another kind."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.is_careless = seed % 2 == 1
        self.number = 0

    def spoils(self) -> bool:
        return self.is_careless and self.random.random() < 0.15

    def event(self, kind: str, **fields) -> dict:
        self.number += 1
        content = {"type": kind, "sequence_number": self.number, **fields}
        removable = [name for name in content if name != "type"]
        if self.spoils():
            del content[self.random.choice(removable)]
        return content

    def item(self, index: int) -> tuple[dict, list[dict]]:
        """Return an item, and its events."""
        kind, name, index_field = self.random.choice(LOCATIONS)
        item_id = f"{kind}_{self.random.choice([0, index]) if self.spoils() else index}"
        address = {"item_id": item_id, "output_index": index, **({index_field: 0} if index_field else {})}
        deltas = [self.random.choice(DELTAS if self.spoils() else DELTAS[:2]) for _ in range(self.random.randrange(14))]
        text = "".join(delta for delta in deltas if isinstance(delta, str))
        item = {"type": kind, "id": item_id, "status": "completed"}
        if kind == "message":
            item |= {"role": "assistant", "content": [{"type": "output_text", "text": text, "annotations": []}]}
        elif kind == "reasoning":
            item |= {"summary": [{"type": "summary_text", "text": text}], "encrypted_content": f"sealed {index}"}
        else:
            call_id = f"call_{0 if self.spoils() else index}"
            item |= {"name": "f", "call_id": call_id, "arguments": "{}" if self.spoils() else text}
        started = {name: value for name, value in item.items() if name not in ("content", "summary", "arguments")}
        events = [self.event("response.output_item.added", output_index=index, item=started)]
        events += [self.event(f"{name}.delta", delta=delta, **address) for delta in deltas]
        events += [self.event(f"{name}.done", text=text, **address)]
        events += [self.event("response.output_item.done", output_index=index, item=item)]
        return item, [one for one in events if not self.spoils()]

    def stream(self) -> list[bytes]:
        """Return the events of a response."""
        items = [self.item(index) for index in range(self.random.randrange(5))]
        final = [copy.deepcopy(item) for item, _ in items]
        if self.spoils():
            self.random.shuffle(final)
        if self.spoils() and final:
            final.append(final[0])
        if self.spoils() and final:
            final.pop()
        contents = [self.event("response.created", response={"id": "resp_u", "status": "in_progress", "output": []})]
        for _, events in items:
            contents += events
        if self.spoils():
            self.random.shuffle(contents)
        end = {"id": "resp_u", "status": "completed", "output": final, "usage": None}
        contents.append(self.event("response.completed", response=end))
        return [self.encode(content["type"], jsontext.dumps(content)) for content in contents]

    def encode(self, kind: str, data: bytes) -> bytes:
        """Encode an event, with other lines if the upstream is careless."""
        usual = sse.encode(kind, data)
        if not self.spoils():
            return usual
        half = data.find(b",") + 1
        return self.random.choice(
            [
                b"data: %b\n\n" % data,
                b"id: 1\n" + usual,
                b": comment\n\n" + usual,
                usual[:-1] + b"retry: 5\n\n",
                b"\n" + usual,
                usual.replace(b"\n", b"\r\n"),
                b"data: %b\ndata: %b\n\n" % (data[:half], data[half:]),
                b"data: [DONE]\n\n" if kind.endswith(".delta") else usual,
            ]
        )


def accumulate(blocks, rewrite):
    events = ResponseAccumulator({"id": "resp_1", "store": True}, "m", rewrite=rewrite)
    sent = b""
    for block in blocks:
        sent += events.add_events(block)
        if events.terminal or events.saw_done:
            break
    if not events.terminal:
        sent += events.fail("broken", "It broke off.")
    return events.response, events.terminal, (sent + events.terminal_event if rewrite else b"")


@pytest.mark.parametrize("seed", range(400))
def test_the_shortcuts_change_nothing(monkeypatch, seed):
    monkeypatch.setattr(time, "time", lambda: 1700000000.0)  # it is in responses that the gateway begins
    events = Upstream(seed).stream()
    size = random.Random(seed).choice([1, 2, 7, 1000])
    blocks = [b"".join(events[start : start + size]) for start in range(0, len(events), size)]
    short = [accumulate(blocks, rewrite) for rewrite in (True, False)]
    monkeypatch.setattr(DeltaTarget, "find", lambda *_: None)
    monkeypatch.setattr(output, "_confirms", lambda *_: False)
    monkeypatch.setattr(OutputItem, "_confirms", lambda *_: False)
    monkeypatch.setattr(event_parser, "_ANNOUNCEMENTS", ())
    monkeypatch.setattr(event_parser, "_have_types", lambda *_: False)  # each event is parsed alone
    assert short == [accumulate(events, rewrite) for rewrite in (True, False)]


DELTA = {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0}


def odd_deltas():
    """Yield blocks that may look like a single further delta."""
    usual = sse.encode(DELTA["type"], jsontext.dumps({**DELTA, "delta": "c", "sequence_number": 9}))
    text = usual.partition(b"data: ")[2].strip()
    yield usual
    for old, new in [
        (b'"delta":"c"', b'"delta":5'),
        (b'"delta":"c"', b'"delta":"a","delta":"b"'),
        (b'"delta":"c"', b'"delta":"\\ud83d"'),
        (b'"delta":"c"', b'"delta":"\xff"'),
        (b'"delta":"c"', b'"delta":1e999'),
        (b'"delta":"c"', b'"delta":"c","logprobs":' + b"[" * 300 + b"]" * 300),
        (b'"delta":"c"', b'"delta":"c","logprobs":' + b"[" * 2000 + b"]" * 2000),
        (b'"delta":"c"', b'"delta":"' + b"c" * 2**17 + b'"'),
        (b'"sequence_number":9', b'"sequence_number":"9"'),
        (b',"sequence_number":9', b""),
        (b'"msg_1"', b'"msg_2"'),
        (b'"output_index":0', b'"output_index":0.0'),
        (b',"output_index":0', b""),
        (b'"type":"response.output_text.delta",', b""),
        (b'"type":"response.output_text.delta"', b'"type":"response.refusal.delta"'),
        (b'"type":"response.output_text.delta"', b'"type":null'),
        (b"event: response.output_text.delta", b"event: response.refusal.delta"),
        (b"event: response.output_text.delta", b"event: response.output_text.delta2"),
        (b"data: ", b"data:"),
        (b"data: ", b"data:  "),
        (b"data: ", b"data: \r"),
        (b"data: {", b"data: {\ndata: "),
        (b"\n\n", b"\r\n\r\n"),
        (b"\n\n", b"\n\n\n"),
        (b"\n\n", b"\nid: 5\n\n"),
        (b"}\n\n", b"\n\n"),
        (b"}\n\n", b"},{}\n\n"),
        (text, b"{}"),
        (text, b"[]"),
        (text, b"null"),
        (text, b"[DONE]"),
    ]:
        assert old in usual
        yield usual.replace(old, new)
    yield usual * 3
    yield usual + b": comment\n\n"


@pytest.mark.parametrize("block", list(odd_deltas()))
def test_a_single_delta_is_what_it_is_among_others(monkeypatch, block):
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
    before = [
        {"type": "response.created", "response": {"id": "resp_u", "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        *({**DELTA, "delta": text, "sequence_number": 3} for text in "ab"),
    ]
    blocks = [sse.encode(content["type"], jsontext.dumps(content)) for content in before]
    end = {"type": "response.completed", "response": {"id": "resp_u", "status": "completed", "output": []}}
    blocks += [block, block, sse.encode(end["type"], jsontext.dumps(end))]
    monkeypatch.setattr(time, "time", lambda: 1700000000.0)
    short = [accumulate(blocks, rewrite) for rewrite in (True, False)]
    monkeypatch.setattr(DeltaTarget, "find", lambda *_: None)
    assert short == [accumulate(blocks, rewrite) for rewrite in (True, False)]
    assert "ab" in short[0][0]["output"][0]["content"][0]["text"]


def test_a_usual_delta_takes_the_short_way(monkeypatch):
    events = ResponseAccumulator({}, rewrite=False)
    first, second = (sse.encode(DELTA["type"], jsontext.dumps({**DELTA, "delta": text})) for text in ("a", "ü"))
    events.add_events(first)
    monkeypatch.setattr(accumulator, "parse_events", None)
    assert events.add_events(second) == second
    assert events.partial_output()[0]["content"][0]["text"] == "aü"


@pytest.mark.parametrize("kind", ["response.created", "response.in_progress"])
@pytest.mark.parametrize("stated", [{"id": "resp_u", "usage": {"input_tokens": 1, "output_tokens": 2}}, None, []])
def test_a_response_that_is_only_announced_is_the_same_for_clients_that_see_no_events(monkeypatch, kind, stated):
    contents = [{"type": "response.created", "response": {"id": "resp_t"}}, {"type": kind, "response": stated}]
    item = {"type": "message", "id": "msg_1", "status": "in_progress"}
    contents.append({"type": "response.output_item.added", "output_index": 0, "item": item})
    events = [b"event: %b\ndata: %b\n\n" % (one["type"].encode(), b" " + jsontext.dumps(one)) for one in contents]
    short = [accumulate(blocks, rewrite=False) for blocks in (events, [b"".join(events)])]
    monkeypatch.setattr(event_parser, "_ANNOUNCEMENTS", ())
    assert short == [accumulate(events, rewrite=False)] * 2
    assert short[0][0]["id"] == "resp_1"


def test_a_client_that_sees_no_events_gets_what_others_see():
    for seed in range(0, 400, 2):  # careful upstreams only: events may give an item without its name to a client
        events = Upstream(seed).stream()
        (streamed, *_), (collected, *_) = (accumulate(events, rewrite) for rewrite in (True, False))
        assert streamed == collected


class Counted(list):
    """Events that count how often one of them is read by its position."""

    reads = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        self.reads += len(found) if isinstance(key, slice) else 1
        return found


def test_deltas_of_texts_that_alternate_are_not_read_again_for_each_of_them(monkeypatch):
    """Or a block with the arguments of parallel calls would take quadratic time."""
    parsed = []

    def parse(*arguments):
        parsed.append(Counted(event_parser.parse_events(*arguments)))
        return parsed[-1]

    monkeypatch.setattr(accumulator, "parse_events", parse)
    added, delta, count = "response.output_item.added", "response.function_call_arguments.delta", 500
    calls = [{"type": "function_call", "id": f"fc_{n}", "call_id": f"call_{n}", "name": "f"} for n in range(2)]
    contents = [{"type": added, "output_index": n, "item": call} for n, call in enumerate(calls)]
    contents += [{"type": delta, "item_id": f"fc_{n % 2}", "output_index": n % 2, "delta": "a"} for n in range(count)]
    events = ResponseAccumulator({})
    events.add_events(b"".join(sse.encode(content["type"], jsontext.dumps(content)) for content in contents))
    assert [item["arguments"] for item in events.partial_output()] == ["a" * (count // 2)] * 2
    assert parsed[0].reads < 20 * count
