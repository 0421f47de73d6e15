"""Transactions on both databases: atomic, also when nested."""

import threading

import peewee
import pytest

from floway_core.storage.db import connect, execute, select, transaction, write

PATIENCE = 60


@pytest.fixture
def numbers(new_database):
    """A database with a table ``numbers``."""
    database = connect(new_database(), timeout=0.2)
    with transaction(database):
        execute(database, "CREATE TABLE numbers (value INTEGER UNIQUE)")
    yield database
    database.close_all()


def add(database, value):
    execute(database, "INSERT INTO numbers VALUES (?)", value)


def values(database):
    return [value for (value,) in select(database, "SELECT value FROM numbers ORDER BY value")]


def test_what_fails_leaves_nothing(numbers):
    with pytest.raises(KeyError), transaction(numbers):
        add(numbers, 1)
        raise KeyError
    with pytest.raises(peewee.IntegrityError), transaction(numbers):
        add(numbers, 2)
        add(numbers, 2)
    assert values(numbers) == [] and numbers.is_closed()
    with transaction(numbers):
        add(numbers, 3)
    assert values(numbers) == [3] and numbers.is_closed()


def test_one_inside_another_joins_it(numbers):
    with transaction(numbers):
        add(numbers, 1)
        with transaction(numbers):
            add(numbers, 2)
        with pytest.raises(KeyError), transaction(numbers):
            add(numbers, 3)
            raise KeyError
        assert write(numbers, "INSERT INTO numbers VALUES (4) RETURNING value") == [(4,)]
        with numbers.connection_context():
            assert values(numbers) == [1, 2, 4]
        assert numbers.in_transaction()
    assert values(numbers) == [1, 2, 4]
    with pytest.raises(KeyError), transaction(numbers):
        with transaction(numbers):
            add(numbers, 5)
        raise KeyError
    assert values(numbers) == [1, 2, 4]


def test_one_on_a_connection_that_is_open(numbers):
    with numbers.connection_context():
        with transaction(numbers):
            add(numbers, 1)
        assert values(numbers) == [1]
        assert not numbers.is_closed()


def test_commits_are_reported_to_who_asked_for_it(numbers):
    reported = []
    with pytest.raises(KeyError), transaction(numbers):
        numbers.after_commit(lambda: reported.append("never"))
        raise KeyError
    with transaction(numbers):
        numbers.after_commit(lambda: reported.append("committed"))
        assert reported == []
    assert reported == ["committed"]


def test_statements_can_be_watched(numbers):
    seen = []
    numbers.query_hooks.append(lambda event: seen.append(event.sql))
    with transaction(numbers):
        add(numbers, 1)
    assert len(seen) == 1 and seen[0].startswith("INSERT")


def test_who_waits_for_too_long_gives_up(new_sqlite):
    database = connect(new_sqlite(), timeout=0.2)
    entered, leave = threading.Event(), threading.Event()

    def dwell():
        with transaction(database):
            entered.set()
            leave.wait(PATIENCE)

    thread = threading.Thread(target=dwell)
    thread.start()
    assert entered.wait(PATIENCE)
    with pytest.raises(peewee.OperationalError, match="locked"), transaction(database):
        pass
    leave.set()
    thread.join(PATIENCE)
    with transaction(database):
        execute(database, "CREATE TABLE numbers (value INTEGER)")
    database.close_all()
