"""The configured upstreams."""

import time

import peewee
from uuid6 import uuid7

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.models import Upstreams


def add(database: peewee.Database, kind: str, name: str) -> Upstream:
    """Store a new upstream of provider ``kind`` behind the existing ones, enabled.

    Call it inside the transaction that stores the plugin's own rows, if there are any.

    :raises GatewayError: 409, the name is taken.
    """
    with database.connection_context(), database.atomic():
        last = Upstreams.select(peewee.fn.MAX(Upstreams.position)).scalar(database)
        upstream = Upstream(f"up_{uuid7().hex}", kind, name, True, 1 if last is None else last + 1)
        try:
            Upstreams.insert(**vars(upstream), created_at=int(time.time())).execute(database)
        except peewee.IntegrityError:
            raise GatewayError(409, f"There is already an upstream named {name!r}.", param="name") from None
    return upstream


def all_rows(database: peewee.Database) -> list[Upstream]:
    """Every upstream in the order in which they are tried."""
    columns = [Upstreams.id, Upstreams.kind, Upstreams.name, Upstreams.enabled, Upstreams.position]
    with database.connection_context():
        rows = Upstreams.select(*columns).order_by(Upstreams.position, Upstreams.id).tuples().execute(database)
        return [Upstream(*row) for row in rows]


def remove(database: peewee.Database, name: str) -> None:
    """Remove an upstream; rows of its plugin that refer to it go with it.

    :raises GatewayError: 404, no upstream has this name.
    """
    with database.connection_context():
        if not Upstreams.delete().where(Upstreams.name == name).execute(database):
            raise GatewayError(404, f"There is no upstream named {name!r}.", param="name")
