"""The configured upstreams."""

import time

import peewee
from uuid6 import uuid7

from floway_core.contexts import Upstream
from floway_core.db import select, transaction
from floway_core.errors import GatewayError
from floway_core.models import Upstreams


def add(database: peewee.Database, kind: str, name: str) -> Upstream:
    """Store a new upstream of provider ``kind`` behind the existing ones, enabled.

    Call it inside the transaction that stores the plugin's own rows, if there are any.

    :raises GatewayError: 409, the name is taken.
    """
    with database.connection_context(), transaction(database):
        last = Upstreams.select(peewee.fn.MAX(Upstreams.position)).scalar(database)
        upstream = Upstream(f"up_{uuid7().hex}", kind, name, True, 1 if last is None else last + 1)
        try:
            Upstreams.insert(**vars(upstream), created_at=int(time.time())).execute(database)
        except peewee.IntegrityError:
            raise GatewayError(409, f"There is already an upstream named {name!r}.", param="name") from None
    return upstream


def all_rows(database: peewee.Database) -> list[Upstream]:
    """Every upstream in the order in which they are tried."""
    rows = select(database, "SELECT id, kind, name, enabled, position FROM upstreams ORDER BY position, id")
    return [Upstream(row_id, kind, name, bool(enabled), position) for row_id, kind, name, enabled, position in rows]


def set_enabled(database: peewee.Database, name: str, enabled: bool) -> None:
    """Serve from an upstream, or leave it out, from the next request on.

    :raises GatewayError: 404, no upstream has this name.
    """
    with database.connection_context():
        changed = Upstreams.update(enabled=enabled).where(Upstreams.name == name).execute(database)
    if not changed:
        raise _unknown(name)


def move(database: peewee.Database, name: str, place: int) -> None:
    """Put an upstream at ``place`` in the order, counted from 1; the others close up behind it.

    :raises GatewayError: 404, no upstream has this name.
    """
    with database.connection_context(), transaction(database):
        rows = all_rows(database)
        moved = next((row for row in rows if row.name == name), None)
        if moved is None:
            raise _unknown(name)
        rows.remove(moved)
        rows.insert(place - 1, moved)
        for position, row in enumerate(rows, 1):
            Upstreams.update(position=position).where(Upstreams.id == row.id).execute(database)


def remove(database: peewee.Database, name: str) -> None:
    """Remove an upstream; rows of its plugin that refer to it go with it.

    :raises GatewayError: 404, no upstream has this name.
    """
    with database.connection_context():
        if not Upstreams.delete().where(Upstreams.name == name).execute(database):
            raise _unknown(name)


def _unknown(name: str) -> GatewayError:
    return GatewayError(404, f"There is no upstream named {name!r}.", param="name")
