"""Background responses in the database: their state and their events, for all workers and hosts.

One worker creates a response and holds a lease meanwhile. All workers can read its stored state. If the worker dies,
the lease expires, and the next reader marks the response as failed.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from floway_core.conversation import payloads
from floway_core.conversation.input_limit import InputLimit
from floway_core.conversation.payloads import Decoder, storable_id
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext, sse
from floway_core.protocol.responses import TERMINAL_EVENT_OF_STATUS
from floway_core.storage import turn_leases
from floway_core.storage.db import Row, execute, insert, insert_all, lock_row, placeholders, select, transaction
from floway_core.storage.stepwise import delete_in_steps

QUEUED, IN_PROGRESS, COMPLETED, INCOMPLETE = "queued", "in_progress", "completed", "incomplete"
FAILED, CANCELLED = "failed", "cancelled"

RUNNING = (QUEUED, IN_PROGRESS)
_IS_RUNNING = f"status IN ('{QUEUED}', '{IN_PROGRESS}')"

EVENT_RETENTION_SECONDS = 3600
"""How long the events of a response are stored after its end. Later, a replay is generated from the response."""

BATCHES_PER_PAGE = 20
"""Batches of events that one query reads."""

RESPONSES_PER_SWEEP = 200
"""Responses whose events are deleted together."""

_COLUMNS = "id, response_id, status, response, has_events, ended_at"

_LEASE_PREFIX = "background:"

_END = f"""
SELECT ended_at, l.id FROM background_responses b
LEFT JOIN {turn_leases.TABLE} l ON l.id = '{_LEASE_PREFIX}' || b.response_id AND {{alive}}
WHERE b.id = ?
"""
"""When a response ended, and its lease."""


class ResponseCancelled(GatewayError):
    """A response must not be stored, because it was cancelled or deleted while it was created."""

    def __init__(self) -> None:
        super().__init__(409, "The response has been cancelled.", code="response_cancelled")


@dataclass(frozen=True)
class BackgroundResponse:
    """The state of a background response."""

    row: int
    response_id: str
    status: str
    response: Mapping[str, Any]
    """The response object. If the response is complete, its snapshot is authoritative."""
    has_events: bool
    ended_at: int | None

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.status in RUNNING


def lease_id(response_id: str) -> str:
    """Return the id of the lease of a background response."""
    return f"{_LEASE_PREFIX}{response_id}"


def create(database: peewee.Database, api_key_id: str, response: Mapping[str, Any], *, has_events: bool) -> int:
    """Store a new background response, with a lease that the caller must renew; return its row id.

    :param response: the response object, with the status ``queued``.
    """
    row = {
        "response_id": response["id"],
        "api_key_id": api_key_id,
        "status": QUEUED,
        "response": payloads.encode(dict(response)),
        "has_events": has_events,
        "created_at": int(time.time()),
    }
    with transaction(database):
        lock_row(database, "api_keys", api_key_id)
        turn_leases.insert(database, api_key_id, lease_id(response["id"]))
        return insert(database, "background_responses", row)


def find(
    database: peewee.Database, api_key_id: str, response_id: str, oldest: int, limit: InputLimit | None = None
) -> BackgroundResponse | None:
    """Return a background response; None if its id is unknown, malformed, expired or of another key.

    :param oldest: responses created before this Unix second have expired.
    :param limit: counts the bytes of its response object.
    """
    sql = f"SELECT {_COLUMNS} FROM background_responses WHERE response_id = ? AND api_key_id = ? AND created_at >= ?"
    rows = select(database, sql, storable_id(response_id) or "", api_key_id, oldest)
    if not rows:
        return None
    response = _from_row(rows[0], limit)
    if response.ended_at is None and not turn_leases.is_alive(database, lease_id(response.response_id)):
        return _end_abandoned(database, response)
    return response


def _from_row(values: Row, limit: InputLimit | None = None) -> BackgroundResponse:
    """:param values: of ``_COLUMNS``.
    :param limit: as in ``find``.
    """
    row, response_id, status, payload, has_events, ended_at = values
    response = {**Decoder("background_responses.response", limit)(payload, row), "status": status}
    return BackgroundResponse(row, response_id, status, response, bool(has_events), ended_at)


def _end_abandoned(database: peewee.Database, abandoned: BackgroundResponse) -> BackgroundResponse:
    """End a response whose worker has died."""
    error = {"code": "server_error", "message": "The server that created this response has stopped."}
    end(database, abandoned.response_id, FAILED, {**abandoned.response, "status": FAILED, "error": error})
    return _get(database, abandoned.row) or abandoned


def _get(database: peewee.Database, row: int) -> BackgroundResponse | None:
    """Return the response with a row id; None if it has been deleted."""
    rows = select(database, f"SELECT {_COLUMNS} FROM background_responses WHERE id = ?", row)
    return _from_row(rows[0]) if rows else None


def cancel(database: peewee.Database, response: BackgroundResponse) -> None:
    """Cancel a response, if it is still running."""
    payload = payloads.encode({**response.response, "status": CANCELLED})
    sql = f"UPDATE background_responses SET status = ?, response = ? WHERE id = ? AND {_IS_RUNNING}"
    with transaction(database):
        execute(database, sql, CANCELLED, payload, response.row)


def delete(database: peewee.Database, response: BackgroundResponse) -> None:
    """Delete a background response with its events. If it is running, its worker stops it."""
    with transaction(database):
        execute(database, "DELETE FROM background_responses WHERE id = ?", response.row)


# ------------------------------------------------------------------------------------------------- by the worker of it
def complete(database: peewee.Database, response_id: str, status: str | None) -> None:
    """Store that a response is complete. Part of the transaction that stores it.

    :param status: ``completed`` or ``incomplete``.
    :raises ResponseCancelled: it has been cancelled or deleted.
    """
    sql = f"UPDATE background_responses SET status = ? WHERE response_id = ? AND {_IS_RUNNING} RETURNING id"
    if not execute(database, sql, status or COMPLETED, response_id).fetchall():
        raise ResponseCancelled


def end(database: peewee.Database, response_id: str, status: str, response: Mapping[str, Any]) -> None:
    """Store that a response has ended.

    :param status: its status, unless it is already complete or cancelled.
    :param response: the response object with this status.
    """
    with transaction(database):
        sql = f"UPDATE background_responses SET status = ?, response = ? WHERE response_id = ? AND {_IS_RUNNING}"
        execute(database, sql, status, payloads.encode(dict(response)), response_id)
        now = int(time.time())
        execute(
            database,
            "UPDATE background_responses SET ended_at = ? WHERE response_id = ? AND ended_at IS NULL",
            now,
            response_id,
        )
        turn_leases.delete(database, lease_id(response_id))


def begin(database: peewee.Database, rows: Sequence[int]) -> None:
    """Store that responses are in progress. Part of a transaction.

    :param rows: row ids.
    """
    sql = f"UPDATE background_responses SET status = ? WHERE id IN ({placeholders(rows)}) AND status = '{QUEUED}'"
    execute(database, sql, IN_PROGRESS, *rows)


def store_events(database: peewee.Database, batches: Iterable[tuple[int, int, bytes]]) -> None:
    """Store batches of events. Part of a transaction.

    :param batches: row id of the response, sequence number of the last event, and the events.
    """
    rows = [(row, last_number, payloads.encode_text(events)) for row, last_number, events in batches]
    if rows:
        insert_all(database, "background_events", ("background_id", "last_number", "payload"), rows)


def find_stopped(database: peewee.Database, rows: Sequence[int]) -> set[int]:
    """Return the row ids of the responses that must be stopped.

    They were cancelled or deleted, or a reader has taken this process for dead.
    """
    ended = f"('{CANCELLED}', '{FAILED}')"
    sql = f"SELECT id FROM background_responses WHERE id IN ({placeholders(rows)}) AND status NOT IN {ended}"
    return set(rows) - {row for (row,) in select(database, sql, *rows)}


# ------------------------------------------------------------------------------------------------------------- reading
@dataclass(frozen=True)
class EventPage:
    """Stored events for a reader."""

    events: bytes
    last_number: int
    """The sequence number of the last event; without events, the reader's."""
    is_last: bool
    """Whether these are the last events."""


def read_events(database: peewee.Database, row: int, after: int) -> EventPage:
    """Return the next events of a response. If its worker has died, it ends, and the next call returns the end.

    :param after: the sequence number of the last event that the reader has seen.
    """
    ends = select(database, _END.format(alive=turn_leases.alive(database)), row)  # before the events
    sql = (
        "SELECT id, last_number, payload FROM background_events WHERE background_id = ? AND last_number > ? "
        f"ORDER BY last_number LIMIT {BATCHES_PER_PAGE}"
    )
    batches = select(database, sql, row, after)
    decode = Decoder("background_events.payload")
    texts = [decode.text(payload, batch) for batch, _, payload in batches]
    if texts:  # the reader may have seen a part of the first batch
        texts[0] = b"".join(event for event in sse.split(texts[0]) if number_of(event) > after)
    last_number = batches[-1][1] if batches else after
    has_ended = not ends or ends[0][0] is not None
    if ends == [(None, None)] and (abandoned := _get(database, row)) and abandoned.ended_at is None:
        _end_abandoned(database, abandoned)
    return EventPage(b"".join(texts), last_number, has_ended and len(batches) < BATCHES_PER_PAGE)


def read_last_event(database: peewee.Database, row: int) -> bytes:
    """Return the last stored event of a response; ``b""`` if there is none."""
    sql = "SELECT id, payload FROM background_events WHERE background_id = ? ORDER BY last_number DESC LIMIT 1"
    rows = select(database, sql, row)
    return sse.split(Decoder("background_events.payload").text(rows[0][1], rows[0][0]))[-1] if rows else b""


def content_of(event: bytes) -> dict[str, Any]:
    """Return the data of a stored event."""
    content: dict[str, Any] = jsontext.loads(sse.parse(event)[1])
    return content


def number_of(event: bytes) -> int:
    """Return the sequence number of a stored event."""
    number: int = content_of(event)["sequence_number"]
    return number


def terminal_event(response: Mapping[str, Any], number: int) -> bytes:
    """Return the event that ends the stream of a response."""
    kind = TERMINAL_EVENT_OF_STATUS.get(str(response.get("status")), "response.completed")
    content = {"type": kind, "sequence_number": number, "response": response}
    return sse.encode(kind, jsontext.dumps(content))


# ---------------------------------------------------------------------------------------------------------------- sweep
def sweep(database: peewee.Database, oldest: int) -> None:
    """Delete expired events and expired responses.

    :param oldest: responses created before this Unix second have expired.
    """
    cutoff = int(time.time()) - EVENT_RETENTION_SECONDS
    ended = f"SELECT id FROM background_responses WHERE ended_at < ? AND has_events LIMIT {RESPONSES_PER_SWEEP}"
    while rows := [row for (row,) in select(database, ended, cutoff)]:
        named = placeholders(rows)
        with transaction(database):  # first, so that nobody reads a part of the events
            execute(database, f"UPDATE background_responses SET has_events = ? WHERE id IN ({named})", False, *rows)
        delete_in_steps(database, "background_events", f"background_id IN ({named})", *rows, size="LENGTH(payload)")
    delete_in_steps(database, "background_responses", "created_at < ?", oldest, size="LENGTH(response)")
