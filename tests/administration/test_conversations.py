"""The operator's list of conversations: its contents, its pages, and what a deletion removes."""

from types import SimpleNamespace

import pytest

from floway_core.administration import conversations
from floway_core.conversation import conversations as with_ids
from floway_core.conversation.cache import HistoryCache
from floway_core.errors import GatewayError
from floway_core.storage import keys
from floway_core.storage.db import select

from ..conversation.direct_store import Store, assistant, user


@pytest.fixture
def store(database):
    return Store(database)


@pytest.fixture
def key_name(database, store):
    return next(row.name for row in keys.all_rows(database) if row.id == store.key_id)


@pytest.fixture
def delete(database, store, key_name):
    gateway = SimpleNamespace(services=SimpleNamespace(database=database), history_cache=HistoryCache(0))
    return lambda conversation_id: conversations.delete(gateway, key_name, conversation_id)


def listed(database, key_name, **options):
    return conversations.list_page(database, key_name, **options).conversations


def test_a_conversation_is_shown_by_its_newest_response_without_its_texts(database, store, key_name):
    first = store.turn([user("A secret question")], assistant("A secret answer"))
    second = store.turn([user("And?")], assistant("So."), previous=first)
    (shown,) = listed(database, key_name)
    assert (shown.id, shown.turns) == (second, 2)
    assert shown.stored_bytes == conversations.stored_bytes(database, key_name) > 0
    assert 0 < shown.created_at <= shown.used_at
    assert "secret" not in repr(shown)


def test_a_conversation_with_an_id_is_shown_by_it(database, store, key_name):
    made = with_ids.create(database, store.key_id, {"topic": "hidden"})
    (shown,) = listed(database, key_name)
    assert (shown.id, shown.turns, shown.created_at) == (made.id, 0, made.created_at)
    assert "hidden" not in repr(shown)


def test_the_pages_have_everything_once_whatever_is_added_meanwhile(database, store, key_name):
    ids = [store.turn([user(f"{number}")], assistant(f"{number}")) for number in range(7)]
    seen, before = [], None
    while True:
        page = conversations.list_page(database, key_name, before, size=3)
        assert len(page.conversations) <= 3
        seen += [shown.id for shown in page.conversations]
        store.turn([user(f"later {len(seen)}")], assistant("Later."))
        before = page.next
        if before is None:
            break
    assert seen == ids[::-1]


def test_other_keys_see_and_delete_nothing_of_it(database, store, key_name, delete):
    foreign = Store(database).turn([user("Mine")], assistant("Yours."))
    assert listed(database, key_name) == ()
    for conversation_id in (foreign, "", "nul \0", "x" * 1000):
        with pytest.raises(GatewayError) as refused:
            delete(conversation_id)
        assert (refused.value.status, refused.value.param) == (404, "conversation")
    for read in (conversations.list_page, conversations.stored_bytes):
        with pytest.raises(GatewayError) as refused:
            read(database, "no such key")
        assert refused.value.status == 404


def test_a_deletion_leaves_no_row_and_touches_no_other_conversation(database, store, key_name, delete):
    kept = store.turn([user("Keep")], assistant("Kept."))
    rows = store.rows()
    first = store.turn([user("Delete")], assistant("Soon."))
    store.turn([user("And")], assistant("Gone."), previous=first)
    store.turn([user("Or")], assistant("Forked."), previous=first)
    delete(first)  # any of its responses names it
    assert store.rows() == rows
    assert [shown.id for shown in listed(database, key_name)] == [kept]
    with pytest.raises(GatewayError):
        delete(first)


def test_a_deletion_takes_the_background_responses_along(database, store, key_name, delete):
    response_id = store.turn([user("Later")], assistant("Done."))
    row = "(response_id, api_key_id, status, response, has_events, created_at)"
    store.execute(
        f"INSERT INTO background_responses {row} VALUES (?, ?, 'completed', ?, ?, 1)",
        *(response_id, store.key_id, b"", False),
    )
    delete(response_id)
    assert select(database, "SELECT 1 FROM background_responses WHERE response_id = ?", response_id) == []


def test_a_turn_that_continues_a_deleted_conversation_fails(store, delete):
    response_id = store.turn([user("One")], assistant("One."))
    turn = store.begin([user("Two")], response_id)
    delete(response_id)
    with pytest.raises(GatewayError) as refused:
        store.commit(turn, assistant("Two."))
    assert refused.value.status == 409
