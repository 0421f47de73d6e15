"""Who has found a row, and comes back to it later, may find another's in its place: SQLite gives the ids of deleted
rows to new ones. What is asked for is gone then, and nothing of the other is read, changed or deleted."""

import pytest

from floway_core.conversation import load, retention
from floway_core.conversation.commit import PreviousResponseDeleted, claim_ordinal
from floway_core.conversation.input_limit import InputLimit
from floway_core.errors import GatewayError

from .direct_store import Store, assistant, user


@pytest.fixture
def taken(store, database):
    """A snapshot whose row has been given to another key, where the database does that; and the other's store and
    response."""
    mine = store.turn([user("Mine")], assistant("mine"))
    stale = store.snapshot(mine)
    retention.delete_response(database, stale)
    other = Store(database)
    theirs = other.turn([user("Theirs")], assistant("theirs"))
    if database.param == "?":
        assert (other.snapshot(theirs).row, other.snapshot(theirs).conversation) == (stale.row, stale.conversation)
    return stale, other, theirs


def test_it_is_not_continued(store, database):
    first = store.turn([user("One")], assistant("a"))
    turn = store.begin([user("Two")], first)
    retention.delete_response(database, store.snapshot(first))
    other = Store(database)
    theirs = other.turn([user("Theirs")], assistant("theirs"))
    before = (store.rows(), other.rows())
    with pytest.raises(PreviousResponseDeleted):
        store.commit(turn, assistant("b"))
    assert (store.rows(), other.rows()) == before
    assert other.history(theirs) == [user("Theirs"), assistant("theirs")]


def test_no_child_of_it_is_counted(taken, database):
    stale, other, theirs = taken
    with pytest.raises(PreviousResponseDeleted):
        claim_ordinal(database, stale)
    assert claim_ordinal(database, other.snapshot(theirs)) == 1


def test_it_is_not_read(taken, store, database):
    stale, _, _ = taken
    assert load.load_history(database, store.recent, stale) is None
    for read in (load.load_response, load.load_input_items):
        with pytest.raises(GatewayError) as refused:
            read(database, stale, InputLimit())
        assert refused.value.status == 404


def test_it_is_not_deleted(taken, database):
    stale, other, theirs = taken
    conversation = other.snapshot(theirs).conversation
    other.execute("UPDATE responses_conversations SET used_at = used_at - 90000 WHERE id = ?", conversation)
    before = other.snapshot(theirs).used_at
    retention.delete_response(database, stale)
    assert other.history(theirs) == [user("Theirs"), assistant("theirs")]
    assert other.snapshot(theirs).used_at == before


def test_it_is_not_kept_alive(taken, database):
    stale, other, theirs = taken
    conversation = other.snapshot(theirs).conversation
    other.execute("UPDATE responses_conversations SET used_at = used_at - 90000 WHERE id = ?", conversation)
    before = other.snapshot(theirs).used_at
    retention.mark_used_if_due(database, type(stale)(**{**vars(stale), "used_at": before - 1}))
    assert other.snapshot(theirs).used_at == before
