"""The simulator's eye for what does not agree between the requests of a session."""

import json

import pytest
from floway_codex.simulator.consistency import Consistency, digest
from floway_codex.simulator.recording import RecordedRequest

ACCOUNT, OTHER_ACCOUNT = "acct-1", "acct-2"


def user(said):
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": said}]}


ANSWER = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]}
COMPACTION = {"type": "compaction", "encrypted_content": "sealed"}


@pytest.fixture
def session():
    """Sends dispatches of one session, and tells what is found about the last one."""
    seen = Consistency()

    def send(
        *items, window=0, turn="t1", state=None, answer_state=None, output=(), thread="s", account=ACCOUNT, **more
    ):
        metadata = {"turn_id": turn, "installation_id": "i", "turn_started_at_unix_ms": 1, **more}
        headers = {
            "session-id": "s",
            "thread-id": thread,
            "x-codex-window-id": f"{thread}:{window}",
            "x-codex-turn-metadata": json.dumps(metadata),
            **({"x-codex-turn-state": state} if state else {}),
        }
        request = RecordedRequest(0, 0.0, "POST", "/", list(headers.items()), b"", {"input": list(items)})
        before = len(seen.findings)
        seen.note_response(seen.check(request, account), answer_state, list(output))
        return [finding.partition(": ")[2] for finding in seen.findings[before:]]

    send.seen = seen
    return send


def test_a_session_as_the_cli_has_it(session):
    found = [
        session(user("a"), answer_state="TS-1"),
        session(user("a"), ANSWER, state="TS-1", answer_state="TS-2"),
        session(user("a"), ANSWER, {"type": "compaction_trigger"}, state="TS-1", output=[COMPACTION]),
        session(user("a"), COMPACTION, state="TS-1", window=1),
        session(user("a"), COMPACTION, ANSWER, user("b"), window=1, turn="t2"),
        session(user("x"), thread="agent", turn="t3"),
    ]
    assert found == [[]] * 6


def test_forks_as_floway_has_them(session):
    session(user("a"))
    assert session(user("a"), ANSWER, user("b"), turn="t2") == []
    assert session(user("a"), ANSWER, user("c"), turn="t3", window=1) == []
    assert session(user("a"), ANSWER, user("b"), ANSWER, user("d"), turn="t4") == []


def test_one_installation_per_session(session):
    session(user("a"))
    assert session(user("a"), ANSWER, turn="t2", installation_id="j") == [
        "installation_id: another one than earlier in the session"
    ]
    assert session(user("a"), account=OTHER_ACCOUNT, installation_id="j") == []


def test_a_window_never_goes_back(session):
    session(user("a"), window=2)
    assert session(user("a"), ANSWER, user("b"), window=1, turn="t2") == ["x-codex-window-id: the number went back"]


def test_a_window_advances_with_a_compaction(session):
    session(user("a"), output=[COMPACTION])
    assert session(COMPACTION, user("b"), turn="t2") == [
        "x-codex-window-id: the number did not advance after the compaction"
    ]


@pytest.mark.parametrize("turn, thread, started, found", [
    ("t1", "other", 1, "turn_id: of another thread's turn"),
    ("t1", "s", 2, "turn_started_at_unix_ms: the turn began at another time"),
])  # fmt: skip
def test_a_turn_has_one_thread_and_one_beginning(session, turn, thread, started, found):
    session(user("a"))
    assert session(user("a"), ANSWER, turn=turn, thread=thread, turn_started_at_unix_ms=started) == [found]


def test_a_turn_that_another_has_followed_does_not_come_back(session):
    session(user("a"))
    session(user("a"), ANSWER, user("b"), turn="t2")
    assert session(user("a"), ANSWER, user("b"), ANSWER, user("c"), turn="t1") == [
        "turn_id: of a turn that another one has followed"
    ]


@pytest.mark.parametrize("state, turn, account, found", [
    ("TS-1", "t1", ACCOUNT, []),
    (None, "t1", ACCOUNT, ["x-codex-turn-state: not sent back"]),
    ("TS-2", "t1", ACCOUNT, ["x-codex-turn-state: not the first one of this turn"]),
    ("TS-1", "t2", ACCOUNT, ["x-codex-turn-state: not the first one of this turn"]),
    ("TS-1", "t1", OTHER_ACCOUNT, ["x-codex-turn-state: not the first one of this turn"]),
    (None, "t1", OTHER_ACCOUNT, []),
])  # fmt: skip
def test_a_turn_state_stays_within_its_turn_and_account(session, state, turn, account, found):
    session(user("a"), answer_state="TS-1")
    session(user("a"), ANSWER, state="TS-1", answer_state="TS-2")
    assert session(user("a"), ANSWER, user("b"), state=state, turn=turn, account=account) == found


def test_everything_is_forgotten(session):
    session(user("a"), answer_state="TS-1")
    session(user("a"), ANSWER)
    assert session.seen.findings
    session.seen.clear()
    assert session(user("a"), ANSWER, installation_id="j") == session.seen.findings == []


def test_items_are_the_same_however_they_are_sent_again():
    sent = {**ANSWER, "id": "msg_1", "status": "completed", "annotations": []}
    assert digest(sent) == digest(ANSWER) != digest(user("Hello."))
