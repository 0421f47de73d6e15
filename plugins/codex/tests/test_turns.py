"""Which requests belong to one turn, and whose turn state is whose."""

import pytest
from floway_codex.identity.turns import (
    TurnStateOwner,
    answers_calls,
    decrypt_turn_state,
    encrypt_in_headers,
    encrypt_turn_state,
)

from floway_core.secrets import SecretBox

USER = {"type": "message", "role": "user", "content": "Run it"}
SAID = {"type": "message", "role": "assistant", "content": "Well,"}
REASONING = {"type": "reasoning", "encrypted_content": "x"}


def call(name, kind="function_call"):
    return {"type": kind, "call_id": name, "name": "f"}


def output(name, kind="function_call_output"):
    return {"type": kind, "call_id": name, "output": "1"}


@pytest.mark.parametrize("items, goes_on", [
    ([USER, call("a"), output("a")], True),
    ([USER, REASONING, SAID, call("a"), call("b"), output("b"), output("a")], True),
    ([USER, call("a"), output("a"), REASONING, call("b"), output("b")], True),
    ([USER, call("a", "custom_tool_call"), output("a", "custom_tool_call_output")], True),
    ([USER], False),
    ([], False),
    ([USER, call("a"), output("a"), USER], False),
    ([USER, call("a"), output("a"), {"type": "compaction_trigger"}], False),
    ([USER, call("a"), output("b")], False),
    ([USER, call("a"), USER, output("a")], False),
    ([USER, call("a"), output("a"), SAID, output("a")], False),
    ([USER, call("a"), {"type": "function_call_output", "output": "1"}], False),
    ([output("a")], False),
])  # fmt: skip
def test_a_turn_goes_on_while_only_tool_calls_are_answered(items, goes_on):
    added = len(items)
    while added and items[added - 1].get("type", "").endswith("_output"):
        added -= 1
    assert answers_calls(items, items[added:] or items[-1:]) is goes_on


def test_instructions_among_the_outputs_do_not_end_the_turn():
    note = {"type": "message", "role": "developer", "content": "Mind the time."}
    added = [output("a"), note]
    assert answers_calls([USER, call("a"), *added], added)
    assert not answers_calls([USER, call("a"), output("a"), note], [note, USER])
    assert not answers_calls([USER, SAID, note], [note])


def test_calls_that_come_along_with_their_results_are_of_another_turn():
    """A client that names an older response, and sends what has been said since."""
    before, since = [USER, SAID], [USER, call("a"), output("a")]
    assert not answers_calls([*before, *since], since)
    assert not answers_calls([*before, *since], since[1:])


OWNER = TurnStateOwner("acct-1", "turn-1")
SECRETS = SecretBox("a key")


def test_a_state_opens_for_its_owner_alone():
    """X-17"""
    sealed = encrypt_turn_state(SECRETS, "TS-1", OWNER)
    assert "TS-1" not in sealed and sealed.isascii()
    assert decrypt_turn_state(SECRETS, [sealed], OWNER) == "TS-1"
    assert decrypt_turn_state(SECRETS, [sealed], TurnStateOwner("acct-2", "turn-1")) is None
    assert decrypt_turn_state(SECRETS, [sealed], TurnStateOwner("acct-1", "turn-2")) is None
    assert decrypt_turn_state(SecretBox("another key"), [sealed], OWNER) is None


def test_the_first_that_opens_counts():
    other = encrypt_turn_state(SECRETS, "TS-9", TurnStateOwner("acct-1", "turn-2"))
    forged = [
        None,
        "",
        "TS-1",
        "é",
        "gAAAAA",
        SECRETS.encrypt("no list"),
        SECRETS.encrypt("[1]"),
        SECRETS.encrypt('{"a": 1}'),
    ]
    assert decrypt_turn_state(SECRETS, [*forged, other], OWNER) is None
    assert (
        decrypt_turn_state(
            SECRETS,
            [*forged, other, encrypt_turn_state(SECRETS, "TS-1", OWNER), encrypt_turn_state(SECRETS, "TS-2", OWNER)],
            OWNER,
        )
        == "TS-1"
    )


def test_only_the_turn_state_is_changed_on_its_way_to_the_client():
    headers = [("x-codex-plan-type", "pro"), ("x-codex-turn-state", "TS-1"), ("date", "today")]
    told = encrypt_in_headers(SECRETS, headers, OWNER)
    assert [told[0], told[2]] == [headers[0], headers[2]] and told[1][0] == "x-codex-turn-state"
    assert decrypt_turn_state(SECRETS, [told[1][1]], OWNER) == "TS-1"
