"""The requests that run, and the latest that have ended, over all workers and hosts: a small table.

Once a second, a worker writes the rows that have changed, and renews ``seen_at`` of its running requests. The rows of a
worker that has died get old, and are no longer shown.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

import peewee

from floway_core.contexts import AttemptContext
from floway_core.results import RequestResult
from floway_core.storage.db import execute, placeholders, select, storable_text

MAX_ENDED = 200
"""Ended requests that the table has. Older ones are deleted."""

MAX_RUNNING = 200
"""Running requests that a worker shows; it may serve more."""

ALIVE_SECONDS = 15
"""For how long a running request is shown after its worker has renewed it."""

MAX_CHARACTERS = 100
ROWS_PER_INSERT = 50


@dataclass
class LiveRequest:
    """A request, without prompt and answer."""

    id: str
    worker: str
    """Host and process id."""
    is_running: bool
    started_at: float
    """Unix time, seconds."""
    api_key: str | None
    model: str | None
    upstream: str | None
    dialect: str
    client: str | None = None
    """The ``user-agent`` of the client."""
    status: int | None = None
    outcome: str | None = None
    error: str | None = None
    seconds: float | None = None
    first_byte_seconds: float | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def elapsed(self) -> float:
        """Seconds until its end, or until now."""
        return max(0.0, time.time() - self.started_at) if self.seconds is None else self.seconds

    @property
    def failed(self) -> bool:
        """Whether the client did not get a complete answer."""
        return not self.is_running and ((self.status or 0) >= 400 or self.outcome in ("failed", "cut"))


COLUMNS = tuple(column.name for column in fields(LiveRequest))
_values_of = attrgetter(*COLUMNS)
CHANGES = ", ".join(f"{name} = excluded.{name}" for name in (*COLUMNS[1:], "seen_at"))


def running_row(attempt: AttemptContext, worker: str) -> LiveRequest:
    """Return the row of a request for which an attempt begins."""
    request = attempt.request
    return LiveRequest(
        id=request.id,
        worker=worker,
        is_running=True,
        started_at=time.time(),
        api_key=storable(request.api_key.name),
        model=storable(request.body.get("model")) or storable(attempt.model),
        upstream=storable(attempt.upstream.name),
        dialect=storable(request.dialect) or "",
        client=storable(request.headers.get("user-agent")),
    )


def ended_row(result: RequestResult, worker: str, before: LiveRequest | None) -> LiveRequest:
    """Return the row of a request that has ended.

    :param before: its row while it ran; None if it had none.
    """
    return LiveRequest(
        id=result.id,
        worker=worker,
        is_running=False,
        started_at=result.started_at,
        api_key=storable(result.key),
        model=storable(result.model),
        upstream=storable(result.upstream),
        dialect=storable(result.dialect) or "",
        client=before.client if before else None,
        status=result.status,
        outcome=storable(result.outcome),
        error=storable(result.error),
        seconds=result.seconds,
        first_byte_seconds=result.first_byte_seconds,
        input_tokens=result.tokens.input,
        cached_tokens=result.tokens.cached,
        output_tokens=result.tokens.output,
    )


def storable(text: object) -> str | None:
    """Return a text as it is stored, because clients choose some of the texts; None for other types."""
    return storable_text(text, MAX_CHARACTERS) if isinstance(text, str) else None


def store(database: peewee.Database, changed: Sequence[LiveRequest]) -> None:
    """Insert rows, or replace those with the same ids, in the transaction that is open."""
    rows = sorted(changed, key=lambda row: row.id)  # two that lock rows must not deadlock
    for start in range(0, len(rows), ROWS_PER_INSERT):
        part = rows[start : start + ROWS_PER_INSERT]
        marks = f"({placeholders((*COLUMNS, 'seen_at'))})"
        execute(
            database,
            f"INSERT INTO dashboard_requests ({', '.join(COLUMNS)}, seen_at) VALUES {', '.join([marks] * len(part))} "
            f"ON CONFLICT (id) DO UPDATE SET {CHANGES}",
            *(value for row in part for value in (*_values_of(row), int(time.time()))),
        )


def keep_alive(database: peewee.Database, worker: str) -> None:
    """Renew ``seen_at`` of the running requests of a worker, in the transaction that is open."""
    sql = "UPDATE dashboard_requests SET seen_at = ? WHERE worker = ? AND is_running = ?"
    execute(database, sql, int(time.time()), worker, True)


def prune(database: peewee.Database) -> None:
    """Delete what is not shown any more, in the transaction that is open."""
    oldest = "SELECT started_at FROM dashboard_requests WHERE is_running = ? ORDER BY started_at DESC LIMIT 1 OFFSET ?"
    execute(
        database,
        f"DELETE FROM dashboard_requests WHERE is_running = ? AND started_at < ({oldest})",
        False,
        False,
        MAX_ENDED,
    )
    lost = "DELETE FROM dashboard_requests WHERE is_running = ? AND seen_at < ?"
    execute(database, lost, True, int(time.time()) - ALIVE_SECONDS)


def forget(database: peewee.Database, ids: Iterable[str]) -> None:
    """Delete the rows of requests that are not shown any more, in the transaction that is open."""
    for row_id in ids:
        execute(database, "DELETE FROM dashboard_requests WHERE id = ?", row_id)


def read(database: peewee.Database, limit: int = MAX_ENDED) -> list[LiveRequest]:
    """Return the running requests and then those that have ended, the newest first.

    :param limit: how many of those that have ended.
    """
    columns = ", ".join(COLUMNS)
    alive = int(time.time()) - ALIVE_SECONDS
    running = f"SELECT {columns} FROM dashboard_requests WHERE is_running = ? AND seen_at >= ? ORDER BY started_at DESC"
    latest = f"SELECT {columns} FROM dashboard_requests WHERE is_running = ? ORDER BY started_at DESC LIMIT ?"
    rows = [*select(database, running, True, alive), *select(database, latest, False, limit)]
    return [LiveRequest(*row) for row in rows]
