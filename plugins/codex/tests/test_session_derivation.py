"""Sessions that are derived from the beginning of a conversation."""

import itertools
import uuid

import pytest
from floway_codex.identity.sessions import (
    count_compactions_after_seed,
    derive_session_id,
    select_seed,
    session_id_of_hint,
)


def user(text="Hi"):
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


ANSWER = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]}
COMPACTION = {"type": "compaction", "encrypted_content": "sealed"}
TOOLS = {"type": "additional_tools", "role": "developer", "tools": []}


def session(*items, instructions="Be brief.", key="key_1", model="gpt-5.5"):
    return derive_session_id(key, model, instructions, items)


def test_it_is_a_uuid_and_stays_while_the_conversation_grows():
    """RS-5"""
    first = session(user())
    assert str(uuid.UUID(first)) == first and uuid.UUID(first).version == 7
    assert first == session(user(), ANSWER, user("And?")) == session(user(), ANSWER, user("And?"), ANSWER, COMPACTION)


def test_different_beginnings_have_different_sessions():
    """RS-6, RS-7, X-16"""
    beginnings = [
        session(user()),
        session(user("Ho")),
        session(user(), instructions="Be long."),
        session(user(), instructions=None),
        session(user(), key="key_2"),
        session(user(), model="gpt-5.4"),
        session(TOOLS, user()),
        session({"role": "developer", "content": "x"}, user()),
        session(COMPACTION),
    ]
    assert len(set(beginnings)) == len(beginnings)


def test_fixed_preambles_do_not_make_conversations_the_same():
    preamble = {"role": "developer", "content": "You are a pirate."}
    assert session(preamble, user()) != session(preamble, user("Ho"))


def test_spelling_does_not_matter():
    spelled = [
        {"role": "user", "content": "Hi"},
        {"content": "Hi", "role": "user", "type": "message"},
        {**user(), "id": "msg_1", "status": "completed"},
    ]
    assert {session(item) for item in spelled} == {session(user())}


def test_what_is_instructions_and_what_is_input_cannot_be_mixed_up():
    """F1.3, and the same for the API key."""
    parts = ["ab", "c", "abc", "a", "bc", "", "\x01", '"', "\\", '["']
    made = [
        derive_session_id(key, "gpt-5.5", text, [user(said)]) for key, text, said in itertools.product(parts, repeat=3)
    ]
    assert len(set(made)) == len(made)


def test_a_compacted_window_keeps_its_session():
    """RS-8"""
    first = session(COMPACTION, user("And?"))
    assert first == session(COMPACTION, user("And?"), ANSWER, user("More"))
    assert first != session({**COMPACTION, "encrypted_content": "another"}, user("And?"))


def test_instructions_of_a_wrong_type_count_as_none():
    assert session(user(), instructions=7) == session(user(), instructions="")


def test_an_empty_input_has_no_session():
    """RS-9: it gets a new one each time."""
    assert session() is None


@pytest.mark.parametrize("items, length", [
    ([user()], 1), ([TOOLS, user(), user()], 2), ([COMPACTION, user()], 1), ([TOOLS, COMPACTION], 2),
    ([ANSWER, TOOLS], 1), ([TOOLS], 1), ([{"type": ["odd"]}, user()], 2),
])  # fmt: skip
def test_the_seed_ends_with_the_first_user_message_or_compaction(items, length):
    assert list(select_seed(items)) == items[:length]


def test_compactions_behind_the_seed_are_counted():
    assert count_compactions_after_seed([COMPACTION, user()]) == 0
    assert count_compactions_after_seed([user(), user(), COMPACTION, user()]) == 1
    assert count_compactions_after_seed([]) == 0


def test_a_conversation_that_the_client_names():
    one = session_id_of_hint("key_1", "conversation-1")
    assert uuid.UUID(one).version == 7 and one == session_id_of_hint("key_1", "conversation-1")
    assert len({one, session_id_of_hint("key_1", "conversation-2"), session_id_of_hint("key_2", "conversation-1")}) == 3
