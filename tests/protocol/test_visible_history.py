"""Histories are equal if they say the same to a client that keeps only texts and tool calls."""

import pytest

from floway_core.protocol.visible_history import continued, find_turns

CALL_ID = "call_0123456789abcdef"


def user(text):
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def answer(*texts, **fields):
    parts = [{"type": "output_text", "text": text} for text in texts]
    return {"type": "message", "role": "assistant", "content": parts, **fields}


def call(call_id=CALL_ID, arguments='{"a":1}', **fields):
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": arguments, **fields}


def output(text, call_id=CALL_ID):
    return {"type": "function_call_output", "call_id": call_id, "output": text}


REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
HISTORY = [user("Hi"), REASONING, answer("I "), SEARCH, answer("look. "), call(), output("x"), answer("Done.")]


def digests(items):
    turns, history = find_turns(items)
    return [turn.digest for turn in turns], history.digest()


@pytest.mark.parametrize(
    "same",
    [
        [user("Hi"), answer("I look."), call(), output("x"), answer("Done.")],
        [{"role": "user", "content": "Hi"}, answer(" I look.\n"), call(arguments='{ "a" : 1 }'), *HISTORY[6:]],
        [user("Hi"), answer("I look.", id="msg_1"), call(id="fc_1", status="completed"), *HISTORY[6:]],
        [user("Hi"), answer("I ", "look."), {"type": "reasoning", "summary": []}, call(), *HISTORY[6:]],
    ],
)
def test_what_a_client_keeps_says_the_same(same):
    assert digests(same) == digests(HISTORY)


@pytest.mark.parametrize(
    "other",
    [
        [user("Ho"), *HISTORY[1:]],
        [{"role": "system", "content": "Be nice."}, *HISTORY],
        [user("Hi"), answer("I look!"), call(), *HISTORY[6:]],
        [user("Hi"), answer("I look."), call(arguments='{"a":2}'), *HISTORY[6:]],
        [user("Hi"), answer("I look."), call("call_other"), output("x", "call_other"), answer("Done.")],
        [*HISTORY[:6], output("y"), answer("Done.")],
        [*HISTORY[:6], answer("Done.")],
    ],
)
def test_what_differs_for_a_client_has_another_hash(other):
    assert digests(other)[1] != digests(HISTORY)[1]


def test_a_turn_ends_where_the_client_speaks():
    turns, _ = find_turns(HISTORY)
    assert [(turn.start, turn.end) for turn in turns] == [(1, 6), (7, 8)]


def test_a_history_can_be_continued():
    _, before = find_turns(HISTORY[:7])
    assert continued(before, HISTORY[7:]).digest() == digests(HISTORY)[1]
    assert before.digest() != digests(HISTORY)[1], "the copy is independent"


@pytest.mark.parametrize(
    ("items", "is_identified"),
    [
        ([user("Hi"), call()], True),
        ([user("Hi"), call("call_0")], False),
        ([user("Hi"), call(), call("call_1")], False),
        ([user("Hi"), answer("Hello.")], False),
        ([call()], False),
    ],
)
def test_only_calls_with_long_ids_identify_a_turn(items, is_identified):
    (turn,), _ = find_turns(items)
    assert (turn.turn_digest is not None) is is_identified


def test_a_turn_is_identified_whatever_stands_between():
    changed = [{"role": "system", "content": "New."}, user("Hi"), answer("More."), output("z"), *HISTORY[1:6]]
    assert find_turns(changed)[0][-1].turn_digest == find_turns(HISTORY[:6])[0][-1].turn_digest
    other = [user("Ho"), *HISTORY[1:6]]
    assert find_turns(other)[0][-1].turn_digest != find_turns(HISTORY[:6])[0][-1].turn_digest
