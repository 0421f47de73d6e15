"""on_snapshot_commit: inside the transaction, with the parent's metadata to read and its own to write."""

import json

import pytest

from floway_core.storage.db import select

from .direct_store import execute, user


def metadata_of(client, response_id):
    found = select(client.database, "SELECT metadata_json FROM responses_snapshots WHERE response_id = ?", response_id)
    return json.loads(found[0][0])


@pytest.mark.parametrize("stream", [False, True])
def test_what_it_is_given(client, stream):
    first = client.turn("One", stream=stream)
    assert first.commit["response"] == first.id
    assert (first.commit["mode"], first.commit["previous"], first.commit["inherited"]) == ("append", None, {})
    second = client.turn("Two", first.id, stream=stream)
    assert second.commit["response"] == second.id
    assert second.commit["previous"] == {
        "id": first.id,
        "metadata": {"actor": {"turns": 1}, "watcher": {"seen": 1}},
    }
    assert second.commit["inherited"] == {"turns": 1}
    assert second.commit["ordinal"] == 1
    assert metadata_of(client, second.id) == {"actor": {"turns": 2}, "watcher": {"seen": 2}}
    assert metadata_of(client, first.id) == {"actor": {"turns": 1}, "watcher": {"seen": 1}}


def test_a_history_that_is_sent_again_is_continued_too(client):
    first = client.turn("One")
    second = client.turn([user("One"), *first.output, user("Two")])
    assert second.commit["previous"]["id"] == first.id
    assert metadata_of(client, second.id)["actor"] == {"turns": 2}
    assert second.response.get("previous_response_id") is None


def test_a_compaction_has_its_own_mode_and_inherits(client):
    first = client.turn("One")
    blob = {"id": "cmp_1", "type": "compaction", "encrypted_content": "sealed"}
    second = client.turn([{"type": "compaction_trigger"}], first.id, output=[blob])
    assert (second.commit["mode"], second.commit["inherited"]) == ("replace", {"turns": 1})
    assert client.turn("Two", second.id).commit["inherited"] == {"turns": 2}


def test_forks_inherit_from_their_parent_and_not_from_each_other(client):
    root = client.turn("One")
    left = client.turn("left", root.id, headers={"x-test-commit": 'note {"side": "left"}'})
    right = client.turn("right", root.id)
    assert (left.commit["ordinal"], right.commit["ordinal"]) == (1, 2)
    assert right.commit["inherited"] == {"turns": 1}
    assert metadata_of(client, left.id)["actor"] == {"turns": 2, "note": {"side": "left"}}
    assert metadata_of(client, right.id)["actor"] == {"turns": 2}
    assert metadata_of(client, client.turn("on", left.id).id)["actor"] == {"turns": 3, "note": {"side": "left"}}


def test_an_ordinal_claimed_early_is_the_one_that_is_stored(client):
    root = client.turn("One")
    fork = client.turn("fork", root.id, headers={"x-test-claim": "early"})
    assert fork.commit["claimed"] == fork.commit["ordinal"] == 1
    query = "SELECT ordinal FROM responses_snapshots WHERE response_id = ?"
    assert select(client.database, query, fork.id) == [(1,)]


def test_it_is_not_called_for_what_is_not_stored(client):
    assert client.turn("One", store=False).notes[-1]["event"] == "send"
    assert client.ask("One", headers={"x-test-answer": "failed"}).notes[-1]["event"] == "send"
    assert client.ask("One", headers={"x-test-answer": "cut"}).notes[-1]["event"] == "send"


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("refuse", 418, "owner_refuses"),
        ("fault", 500, "internal_error"),
        ("unjson", 500, "internal_error"),
        ("list", 500, "internal_error"),
    ],
)
def test_its_failure_is_the_turns_failure(client, how, status, code):
    root = client.turn("One")
    asked = {"previous_response_id": root.id, "headers": {"x-test-commit": how}}
    whole = client.ask("Two", **asked)
    assert (whole.status, whole.error["code"]) == (status, code)
    streamed = client.ask("Two", stream=True, **asked)
    assert [event["type"] for event in streamed.body[-2:]] == ["error", "response.failed"]
    assert client.rows() == [1, 1, 2]
    later = client.turn("Two", root.id)
    assert metadata_of(client, later.id) == {"actor": {"turns": 2}, "watcher": {"seen": 2}}
    assert metadata_of(client, root.id) == {"actor": {"turns": 1}, "watcher": {"seen": 1}}


@pytest.mark.parametrize("how", ["raise", "sql", "not JSON", "list"])
def test_an_observers_failure_is_nobodys_failure(client, how):
    root = client.turn("One")
    second = client.turn("Two", root.id, headers={"x-test-watcher": how})
    assert metadata_of(client, second.id) == {"actor": {"turns": 2}, "watcher": {"seen": 1}}
    assert client.turn("Three", second.id).sent[0][:2] == [user("One"), *root.output]


def test_odd_metadata_comes_back(client):
    odd = {"": None, "a\0b": ["\ud83d", "ü", 2**70, 1e300], "deep": {"er": [{}]}}
    root = client.turn("One", headers={"x-test-commit": f"note {json.dumps(odd)}"})
    assert client.turn("Two", root.id).commit["inherited"] == {"turns": 1, "note": odd}


def test_a_damaged_row_fails_the_turn_and_says_where(client):
    root = client.turn("One")
    (row,) = select(client.database, "SELECT id FROM responses_snapshots WHERE response_id = ?", root.id)[0]
    execute(client.database, "UPDATE responses_snapshots SET metadata_json = '[1]' WHERE id = ?", row)
    for failed in (
        client.ask("Two", previous_response_id=root.id),
        client.ask([user("One"), *root.output, user("Two")]),
    ):
        assert (failed.status, failed.error["code"]) == (500, "stored_data_invalid")
        assert failed.error["message"] == f"Stored data is damaged: responses_snapshots.metadata_json of row {row}."
    assert client.turn("One").status == 200
