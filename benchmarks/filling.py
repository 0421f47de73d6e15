"""Fill a PostgreSQL database with conversations: Floway writes some, and SQL copies them with ids of their own."""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import wire
from benchmarks.conversation import Conversation
from benchmarks.postgresql import Server
from floway_core.storage import keys
from floway_core.storage.db import close_connections, connect, select

TURNS = 10
"""Of a conversation, with two requests each: a question with a call of a tool, and its result with an answer."""
ITEMS = 5 * TURNS
KEYS = 20
"""Owners of the copies: the key of the load generator is one of them."""
ITEMS_PER_STATEMENT = 100_000

TABLES = ("responses_conversations", "responses_snapshots", "responses_items")
UNIQUE = {
    "response_id": "'resp_' || md5({n} || response_id)",
    "history_hash": "md5({n} || history_hash) || md5(history_hash || {n})",
    "item_id": "split_part(item_id, '_', 1) || '_' || md5({n} || item_id || snapshot_id)",
    "blob_hash": "md5({n} || blob_hash || snapshot_id) || md5(blob_hash || snapshot_id || {n})",
    "api_key_id": "(%s::text[])[1 + n %% %s]",
}
"""Columns that differ from copy to copy, and what they are in copy ``n``."""
REFERENCES = {"conversation_id": TABLES[0], "parent_id": TABLES[1], "snapshot_id": TABLES[1]}
FASTER = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "16GB",
    "autovacuum": "off",
    "maintenance_work_mem": "1GB",
}
"""Settings of the server while it is filled."""


@dataclass(frozen=True)
class Written:
    """What Floway has written: the templates."""

    histories: list[list[dict[str, Any]]]
    """The items of each conversation."""
    owner: str
    """The id of the key of the load generator."""


def write_templates(server: Server, name: str, conversations: int) -> Written:
    """Let Floway's own code write conversations of the key ``bench``."""
    database = connect(server.url(name))
    owner = select(database, "SELECT id FROM api_keys WHERE name = 'bench'")[0][0]
    upstream = select(database, "SELECT id FROM upstreams WHERE name = 'bench-openai'")[0][0]
    histories = []
    for number in range(conversations):
        template = Conversation(database, sends_history=False, key=owner)
        template.upstream_id = upstream
        template.envelope = json.loads(wire.whole_answer(b"0" * wire.ID, 1, b""))  # as of the fake upstream
        for turn in range(TURNS):
            template.turn(number * TURNS + turn)
        histories.append(template.history)
    close_connections(database)
    return Written(histories, owner)


def copy_templates(server: Server, name: str, owner: str, items: int) -> Iterator[int]:
    """Copy all conversations until there are ``items`` items; yield how many there are after each statement.

    Indexes that are no keys are built at the end.
    """
    others = _add_keys(server, name)
    _configure(server, FASTER)
    with server.session(name) as run:
        run("SET session_replication_role = replica")  # the rows refer to rows that are there
        spans = {table: run(f"SELECT min(id), max(id), count(*) FROM {table}")[0] for table in TABLES}
        per_copy = spans[TABLES[2]][2]
        copies, step = max(0, items // per_copy - 1), max(1, ITEMS_PER_STATEMENT // per_copy)
        indexes = run(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(%s) AND indexname NOT IN"
            " (SELECT conname FROM pg_constraint)",
            list(TABLES),
        )
        for index, _ in indexes:
            run(f"DROP INDEX {index}")
        for first in range(1, copies + 1, step):
            last = min(copies, first + step - 1)
            for table in TABLES:
                run(_copying(run, table, spans), [owner, *others], KEYS, first, last, *spans[table][:2])
            yield (last + 1) * per_copy
        for _, definition in indexes:
            run(definition)
        for table in TABLES:
            run(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
    _configure(server, dict.fromkeys(FASTER))


def vacuum(server: Server, name: str) -> None:
    """Leave the tables as the server's own vacuum leaves them, and with statistics."""
    server.run("VACUUM (ANALYZE)", name=name)


def _copying(run: Any, table: str, spans: dict[str, tuple[int, int, int]]) -> str:
    """Return a statement with parameters: the keys, their number, the first and last copy, the first and last id."""
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position"
    columns = [column for (column,) in run(query, table)]
    values = [_value(column, table, spans) for column in columns]
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {table}"
        " CROSS JOIN generate_series(%s, %s) AS n WHERE id BETWEEN %s AND %s ORDER BY n, id"
    )


def _value(column: str, table: str, spans: dict[str, tuple[int, int, int]]) -> str:
    if column == "id" or column in REFERENCES:
        first, last, _ = spans[table if column == "id" else REFERENCES[column]]
        return f"{column} + n * {last - first + 1}"
    return UNIQUE.get(column, column).replace("{n}", "n::text")


def _add_keys(server: Server, name: str) -> list[str]:
    database = connect(server.url(name))
    names = [f"other {uuid.uuid4().hex}" for _ in range(KEYS - 1)]
    for other in names:
        keys.create(database, other)
    close_connections(database)
    rows = server.run("SELECT id FROM api_keys WHERE name = ANY(%s)", names, name=name)
    return [key_id for (key_id,) in rows]


def _configure(server: Server, settings: Mapping[str, str | None]) -> None:
    for name, value in settings.items():
        server.run(f"ALTER SYSTEM SET {name} = '{value}'" if value else f"ALTER SYSTEM RESET {name}")
    server.run("SELECT pg_reload_conf()")
