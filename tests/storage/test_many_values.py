"""Statements with many values: all of them count, and SQLite has few different statements to prepare."""

import pytest

from floway_core.storage.db import connect, execute, insert, insert_all, padded, placeholders, select, transaction


@pytest.fixture
def database(new_database):
    """A database with a table ``pairs``."""
    database = connect(new_database())
    key = "INTEGER PRIMARY KEY" if database.param == "?" else "BIGSERIAL PRIMARY KEY"
    with transaction(database):
        execute(database, f"CREATE TABLE pairs (id {key}, one INTEGER, two TEXT, three INTEGER)")
    yield database
    database.close_all()


def statements_of(monkeypatch, database):
    """The statements that the database runs from now on."""
    run, executed = database.execute_sql, []
    monkeypatch.setattr(database, "execute_sql", lambda sql, *values: executed.append(sql) or run(sql, *values))
    return executed


def test_all_rows_are_inserted_in_order(monkeypatch, database):
    executed, expected = statements_of(monkeypatch, database), []
    for count in [*range(120), 250]:
        rows = [(number, f"{count} or {number}", None) for number in range(count)]
        with transaction(database):
            insert_all(database, "pairs", ("one", "two", "three"), rows)
        expected += rows
    assert select(database, "SELECT one, two, three FROM pairs ORDER BY id") == expected
    texts = [sql for sql in executed if sql.startswith("INSERT")]
    if database.param == "?":
        assert len(set(texts)) <= 18
        assert max(sql.count("(?") for sql in texts) == 64
    else:
        assert len(texts) == 120 - 1 + 19 + 3, "of 101 rows and more, two; of 250, three"


def test_a_row_gets_the_id_that_is_told(database):
    with transaction(database):
        ids = [insert(database, "pairs", {"one": number, "two": None}) for number in range(3)]
        execute(database, "DELETE FROM pairs WHERE id = ?", ids[0])
        ids.append(insert(database, "pairs", {"one": 3, "two": None}))
    found = select(database, "SELECT id, one FROM pairs ORDER BY id")
    assert found == [(ids[1], 1), (ids[2], 2), (ids[3], 3)]


def test_a_padded_list_finds_the_same(database):
    with transaction(database):
        insert_all(database, "pairs", ("one", "two"), [(number, str(number)) for number in range(70)])
    lengths = set()
    for count in range(1, 70):
        wanted = padded(database, [str(number) for number in range(count)])
        lengths.add(len(wanted))
        sql = f"SELECT one FROM pairs WHERE two IN ({placeholders(wanted)}) ORDER BY one"
        assert select(database, sql, *wanted) == [(number,) for number in range(count)]
    assert len(lengths) == (8 if database.param == "?" else 69)


@pytest.mark.parametrize("value", [b"", b"\0\xff", None, True, False, 0, 1.5, "", "text"])
def test_values_come_back_as_they_are(database, value):
    kind = {bytes: "BLOB" if database.param == "?" else "BYTEA", bool: "BOOLEAN", int: "INTEGER", float: "REAL"}
    with transaction(database):
        execute(database, f"CREATE TABLE plain (value {kind.get(type(value), 'TEXT')})")
        execute(database, "INSERT INTO plain VALUES (?)", value)
    ((found,),) = select(database, "SELECT value FROM plain")
    assert (bytes(found) if isinstance(found, memoryview) else found) == value
