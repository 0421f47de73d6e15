"""Delete many rows in small transactions with pauses between them, so that others need not wait for long."""

from functools import partial
from time import monotonic, sleep
from typing import Any

import peewee

from floway_core.storage.db import execute, placeholders, select, transaction
from floway_core.storage.disk_reserve import delete_despite_full_disk

STEP_ROWS = 500

STEP_BYTES = 16 * 2**20
"""Bytes of payloads after which a transaction deletes no further rows."""


def delete_in_steps(
    database: peewee.Database,
    table: str,
    condition: str,
    *parameters: Any,
    size: str = "0",
    order: str = "",
    rows: int = STEP_ROWS,
) -> int:
    """Delete the rows of a table that meet a condition; return their number. Also works on a full disk.

    :param condition: in SQL.
    :param size: an SQL expression for the bytes of a row.
    :param order: an ``ORDER BY`` clause, if rows refer to each other: those that refer to others come first.
    :param rows: how many rows one transaction deletes at most.
    """
    sql = f"SELECT id, {size} FROM {table} WHERE {condition} {order} LIMIT {rows}"
    if database.for_update:  # others that delete skip locked rows
        sql += " FOR UPDATE SKIP LOCKED"
    count = 0
    while True:
        started = monotonic()
        deleted = delete_despite_full_disk(database, partial(_delete_step, database, table, sql, parameters))
        if not deleted:
            return count
        count += deleted
        sleep(monotonic() - started)  # other writers go first


def _delete_step(database: peewee.Database, table: str, sql: str, parameters: tuple[Any, ...]) -> int:
    """Delete some of the rows that a query returns; return their number."""
    with transaction(database):
        step, total = [], 0
        for row, size in select(database, sql, *parameters):
            step.append(row)
            total += size
            if total >= STEP_BYTES:
                break
        if step:
            execute(database, f"DELETE FROM {table} WHERE id IN ({placeholders(step)})", *step)
    return len(step)
