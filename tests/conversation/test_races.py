"""Concurrent forks, deletions and retention runs."""

import dataclasses
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from floway_core.conversation import load, retention
from floway_core.conversation.commit import OrdinalClaim, PreviousResponseDeleted, claim_ordinal
from floway_core.conversation.input_limit import InputLimit
from floway_core.errors import GatewayError
from floway_core.storage import keys
from floway_core.storage.db import select, transaction

from .direct_store import DAYS, Store, assistant, user

LONG_AGO = 1_000_000


def at_once(*calls):
    """Run all calls at the same time; their results, or what they raised."""
    gate = threading.Barrier(len(calls), timeout=60)

    def run(call):
        gate.wait()
        try:
            return call()
        except GatewayError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_sixteen_forks(store):
    parent = store.turn("Hi", assistant("a"))
    turns = [store.begin(f"fork {number}", parent) for number in range(16)]
    made = at_once(*[lambda turn=turn: store.commit(turn, assistant(turn.response_id)) for turn in turns])
    for number, (turn, response_id) in enumerate(zip(turns, made, strict=True)):
        assert store.history(response_id) == [
            *store.history(parent),
            user(f"fork {number}"),
            assistant(turn.response_id),
        ]
    children = select(
        store.database,
        "SELECT ordinal FROM responses_snapshots WHERE api_key_id = ? AND depth = 1",
        store.key_id,
    )
    assert sorted(children) == [(number,) for number in range(1, 17)]
    assert store.rows() == [1, 17, 34]


def test_ordinals_are_claimed_once(store):
    parent = store.snapshot(store.turn("Hi", assistant("a")))
    claimed = at_once(*[lambda: [claim_ordinal(store.database, parent) for _ in range(5)] for _ in range(8)])
    assert sorted(itertools.chain(*claimed)) == list(range(1, 41))


def test_a_released_ordinal_is_claimed_again_unless_another_turn_has_a_higher_one(store):
    parent = store.snapshot(store.turn("Hi", assistant("a")))

    def claim():
        made = OrdinalClaim(store.database, parent)
        return made, made()

    failed, number = claim()
    failed.release()
    failed.release()
    later = [claim() for _ in range(3)]
    assert (number, [claimed for _, claimed in later]) == (1, [1, 2, 3])
    later[1][0].release()
    assert claim()[1] == 4


def test_an_ordinal_of_a_transaction_that_was_rolled_back_is_not_released(store):
    parent = store.snapshot(store.turn("Hi", assistant("a")))
    rolled_back = OrdinalClaim(store.database, parent)
    with pytest.raises(ZeroDivisionError), transaction(store.database):
        assert rolled_back() == 1
        raise ZeroDivisionError
    assert OrdinalClaim(store.database, parent)() == 1
    rolled_back.release()
    assert OrdinalClaim(store.database, parent)() == 2


def test_forks_of_a_history_that_is_sent_again(store):
    store.turn("Hi", assistant("a"))
    turns = [store.begin([user("Hi"), assistant("a"), user(f"fork {number}")]) for number in range(8)]
    at_once(*[lambda turn=turn: store.commit(turn, assistant("b")) for turn in turns])
    assert store.rows() == [1, 9, 18]


@pytest.mark.parametrize("_", range(10))
def test_a_response_is_deleted_while_it_is_continued(store, _):
    parent = store.turn("Hi", assistant("a"))
    turn = store.begin("More", parent)
    found = store.snapshot(parent)
    child, deleted = at_once(
        lambda: store.commit(turn, assistant("b")), lambda: retention.delete_response(store.database, found)
    )
    assert deleted is None and store.snapshot(parent) is None
    if isinstance(child, PreviousResponseDeleted):
        assert store.rows() == [0, 0, 0]
    else:
        assert store.history(child) == [user("Hi"), assistant("a"), user("More"), assistant("b")]
        retention.delete_response(store.database, store.snapshot(child))
        assert store.rows() == [0, 0, 0]


def test_what_is_recognised_may_be_deleted_meanwhile(store):
    parent = store.turn("Hi", assistant("a"))
    turn = store.begin([user("Hi"), assistant("a"), user("More")])
    assert turn.previous.response_id == parent
    retention.delete_response(store.database, store.snapshot(parent))
    child = store.commit(turn, assistant("b"))
    assert store.history(child) == [user("Hi"), assistant("a"), user("More"), assistant("b")]
    assert store.rows() == [1, 1, 4]
    (found,) = select(store.database, "SELECT ordinal, depth FROM responses_snapshots WHERE response_id = ?", child)
    assert found == (0, 0)


def test_what_is_recognised_may_be_deleted_before_the_attempt_starts(client_of, acting):
    client = client_of(acting)
    first = client.turn("One")
    whole = [user("One"), *first.output, user("Two")]
    told = client.turn(whole, headers={"x-test-claim": "late"})
    assert told.sent == [whole] and told.commit["previous"] is None
    assert client.turn("Three", told.id).sent == [[*whole, *told.output, user("Three")]]


def test_what_is_continued_by_id_may_not_be_deleted_before_either(client_of, acting):
    client = client_of(acting)
    first = client.turn("One")
    refused = client.ask("Two", previous_response_id=first.id, headers={"x-test-claim": "late"})
    assert refused.status == 409 and refused.sent == []


def test_what_is_continued_by_id_may_not(store):
    parent = store.turn("Hi", assistant("a"))
    turn = store.begin("More", parent)
    retention.delete_response(store.database, store.snapshot(parent))
    with pytest.raises(PreviousResponseDeleted) as caught:
        store.commit(turn, assistant("b"))
    assert caught.value.status == 409
    assert store.rows() == [0, 0, 0]


def test_a_deletion_between_finding_and_loading(store, monkeypatch):
    parent = store.turn("Hi", assistant("a"))
    found = store.snapshot(parent)
    history = load.load_history

    def too_late(*arguments):
        retention.delete_response(store.database, found)
        return history(*arguments)

    monkeypatch.setattr(load, "load_history", too_late)
    with pytest.raises(GatewayError) as caught:
        store.begin("More", parent)
    assert caught.value.code == "previous_response_not_found"
    for read in (load.load_response, load.load_input_items):
        with pytest.raises(GatewayError) as caught:
            read(store.database, found, InputLimit())
        assert caught.value.status == 404


@pytest.mark.parametrize("_", range(5))
def test_deletions_of_a_whole_line(store, _):
    """The last of them finds every other unneeded, in whatever order they come."""
    line = [store.turn("Hi", assistant("a"))]
    for number in range(7):
        line.append(store.turn(str(number), assistant("b"), previous=line[-1]))
    twice = [store.snapshot(response_id) for response_id in line] * 2
    outcomes = at_once(*[lambda one=one: retention.delete_response(store.database, one) for one in twice])
    assert outcomes == [None] * 16
    assert store.rows() == [0, 0, 0]


def expire(store):
    store.execute("UPDATE responses_conversations SET used_at = ? WHERE api_key_id = ?", LONG_AGO, store.key_id)


def test_several_sweepers(store):
    for number in range(300):
        store.turn(str(number), assistant("a"))
    expire(store)
    assert sum(at_once(*[lambda: retention.sweep(store.database, DAYS) for _ in range(4)])) >= 300
    assert store.rows() == [0, 0, 0]


@pytest.mark.parametrize("_", range(10))
def test_a_sweep_spares_what_is_being_used(store, _):
    response_id = store.turn("Hi", assistant("a"))
    found = dataclasses.replace(store.snapshot(response_id), used_at=LONG_AGO)
    expire(store)
    at_once(
        lambda: retention.sweep(store.database, DAYS),
        lambda: retention.mark_used_if_due(store.database, found),
    )
    if store.rows() == [0, 0, 0]:
        assert store.snapshot(response_id) is None
    else:
        assert store.history(response_id) == [user("Hi"), assistant("a")]


def test_a_key_is_deleted_while_it_is_used(store):
    name = select(store.database, "SELECT name FROM api_keys WHERE id = ?", store.key_id)[0][0]
    parents = [store.turn(str(number), assistant("a")) for number in range(12)]
    turns = [store.begin("More", parent) for parent in parents]
    gate = threading.Event()

    def commit(turn):
        gate.wait()
        try:
            return store.commit(turn, assistant("b"))
        except Exception as error:  # noqa: BLE001 - whatever storing makes a failed turn of
            return error

    with ThreadPoolExecutor(13) as pool:
        commits = [pool.submit(commit, turn) for turn in turns]
        deletion = pool.submit(lambda: gate.wait() and keys.delete(store.database, name))
        gate.set()
        assert deletion.result() is None
        for made in commits:
            made.result()
    assert store.rows() == [0, 0, 0]


def test_two_keys_do_not_meet(store):
    other = Store(store.database)
    mine = store.turn([user("Hi")], assistant("a"))
    assert other.snapshot(mine) is None
    assert other.begin([user("Hi"), assistant("a"), user("More")]).previous is None
    with pytest.raises(GatewayError):
        other.begin([{"id": "msg_a"}])
    assert other.rows() == [0, 0, 0]
