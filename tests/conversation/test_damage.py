"""Damaged rows: an error names column and row, and no answer is wrong."""

import pytest

from floway_core.conversation import load
from floway_core.conversation.input_limit import InputLimit
from floway_core.errors import GatewayError
from floway_core.storage import migrate
from floway_core.storage.db import connect, select

from .direct_store import Store, assistant, user

LIMIT = InputLimit()
DAMAGED = [b"", b"j", b"j[]", b"j1", b"jnull", b'j"x"', b'j{"a":1', b'j{"a":1}}', b"z", b"zrubbish", b"x{}", b"\xff"]
SPREAD = [(b'j{"a":1},{"b":[{}', b"j{}]}"), (b"j{},{}", b"j"), (b'j{"a":"', b'j"}')]


def row_of(store, table, condition="1 = 1"):
    return select(store.database, f"SELECT id FROM {table} WHERE api_key_id = ? AND {condition}", store.key_id)[0][0]


def fails(call, column, row):
    with pytest.raises(GatewayError) as caught:
        call()
    assert (caught.value.status, caught.value.code) == (500, "stored_data_invalid")
    assert caught.value.message == f"Stored data is damaged: {column} of row {row}."


@pytest.fixture
def stored(store):
    return store.turn([user("Hi")], assistant("a"))


@pytest.mark.parametrize("payload", DAMAGED)
def test_a_payload(store, stored, payload):
    row = row_of(store, "responses_items", "position = 1")
    store.execute("UPDATE responses_items SET payload = ? WHERE id = ?", payload, row)
    column = "responses_items.payload"
    fails(lambda: store.history(stored), column, row)
    fails(lambda: store.begin("More", stored), column, row)
    fails(lambda: store.begin([{"id": "msg_a"}]), column, row)
    fails(lambda: load.load_response(store.database, store.snapshot(stored)), column, row)
    row = row_of(store, "responses_items", "position = 0")
    store.execute("UPDATE responses_items SET payload = ? WHERE id = ?", payload, row)
    fails(lambda: load.load_input_items(store.database, store.snapshot(stored), LIMIT)[0].decode(LIMIT), column, row)


@pytest.mark.parametrize("payloads", SPREAD)
def test_payloads_that_make_sense_together_only(store, stored, payloads):
    for position, payload in enumerate(payloads):
        row = row_of(store, "responses_items", f"position = {position}")
        store.execute("UPDATE responses_items SET payload = ? WHERE id = ?", payload, row)
    fails(lambda: store.history(stored), "responses_items.payload", row_of(store, "responses_items", "position = 0"))


@pytest.mark.parametrize("payload", DAMAGED)
def test_an_envelope(store, stored, payload):
    row = row_of(store, "responses_snapshots")
    store.execute("UPDATE responses_snapshots SET envelope = ? WHERE id = ?", payload, row)
    fails(lambda: load.load_response(store.database, store.snapshot(stored)), "responses_snapshots.envelope", row)


@pytest.mark.parametrize("text", ["", "null", "[]", "7", '"x"', "{", '{"plugin": 1}', '{"plugin": [], "other": {}}'])
def test_metadata(store, stored, text):
    row = row_of(store, "responses_snapshots")
    store.execute("UPDATE responses_snapshots SET metadata_json = ? WHERE id = ?", text, row)
    column = "responses_snapshots.metadata_json"
    fails(lambda: store.begin("More", stored), column, row)
    fails(lambda: store.begin([user("Hi"), assistant("a"), user("More")]), column, row)


@pytest.mark.parametrize("value", [7, 1.5, "text"])
def test_sqlite_columns_of_another_type(new_sqlite, value):
    """Other databases hold columns to their types."""
    database = connect(new_sqlite())
    migrate.apply(database, [migrate.CORE])
    store = Store(database)
    stored = store.turn([user("Hi")], assistant("a"))
    row = row_of(store, "responses_items", "position = 0")
    store.execute("UPDATE responses_items SET payload = ? WHERE id = ?", value, row)
    fails(lambda: store.history(stored), "responses_items.payload", row)
    row = row_of(store, "responses_snapshots")
    store.execute("UPDATE responses_snapshots SET metadata_json = ? WHERE id = ?", value, row)
    fails(lambda: store.snapshot(stored), "responses_snapshots.metadata_json", row)
    database.close_all()
