"""Single reads of SQLite, which need no connection of their own."""

import threading

import peewee
import pytest

from floway_core.storage.db import connect, execute, select, transaction

PATIENCE = 60


@pytest.fixture
def sqlite(new_sqlite):
    """A database with a table ``numbers``."""
    database = connect(new_sqlite())
    with transaction(database):
        execute(database, "CREATE TABLE numbers (value INTEGER)")
    yield database
    database.close_all()


def test_a_long_query_keeps_nobody_waiting(sqlite):
    entered, leave = threading.Event(), threading.Event()

    @sqlite.func("dwell")
    def dwell():
        entered.set()
        return leave.wait(PATIENCE)

    found = []
    reader = threading.Thread(target=lambda: found.extend(select(sqlite, "SELECT dwell()")))
    reader.start()
    assert entered.wait(PATIENCE)
    assert select(sqlite, "SELECT count(*) FROM numbers") == [(0,)]
    leave.set()
    reader.join(PATIENCE)
    assert found == [(1,)]


def test_a_transaction_reads_what_it_has_written_and_nobody_else_does(sqlite):
    elsewhere = []

    def look():
        looking = threading.Thread(target=lambda: elsewhere.append(select(sqlite, "SELECT value FROM numbers")))
        looking.start()
        looking.join(PATIENCE)

    with transaction(sqlite):
        execute(sqlite, "INSERT INTO numbers VALUES (?)", 7)
        assert select(sqlite, "SELECT value FROM numbers WHERE value = ?", 7) == [(7,)]
        look()
    look()
    assert elsewhere == [[], [(7,)]]


def test_who_watches_statements_sees_them_all(sqlite):
    seen = []
    sqlite.query_hooks.append(lambda event: seen.append(event.sql))
    select(sqlite, "SELECT 1")
    assert seen == ["SELECT 1"]


def test_a_reading_statement_writes_nothing(sqlite):
    with pytest.raises(peewee.OperationalError, match="readonly"):
        select(sqlite, "INSERT INTO numbers VALUES (1) RETURNING value")
    assert select(sqlite, "SELECT count(*) FROM numbers") == [(0,)]


def test_a_connection_that_has_failed_is_not_used_again(sqlite):
    select(sqlite, "PRAGMA cache_size = 77")
    assert select(sqlite, "PRAGMA cache_size") == [(77,)]
    with pytest.raises(peewee.OperationalError):
        select(sqlite, "SELECT nothing FROM nowhere")
    assert select(sqlite, "PRAGMA cache_size") != [(77,)]
