"""The connections of upstreams: URL, key, headers and models, stored in the plugin's only table."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import peewee

from floway_core.contexts import Services, Upstream
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.storage import upstreams
from floway_core.storage.db import select, transaction

KIND = "openai"

SELECT_CONNECTION = """
SELECT base_url, api_key, headers, models_json, compacts FROM openai_connections WHERE upstream_id = ?
"""


class Connections(peewee.Model):
    """Not bound to a database: each query names it. A row is deleted with its upstream (see the migration)."""

    upstream_id = peewee.CharField(primary_key=True)
    base_url = peewee.TextField()
    api_key = peewee.TextField(null=True)
    """Encrypted; NULL for an upstream that needs none."""
    headers = peewee.TextField()
    """A JSON object, encrypted because headers may hold secrets."""
    models_json = peewee.TextField()
    """A JSON array of names; empty if the upstream lists its models."""
    compacts = peewee.BooleanField()

    class Meta:
        table_name = "openai_connections"


@dataclass(frozen=True)
class Connection:
    """How to reach an upstream."""

    base_url: str
    """With its path, such as ``/v1``, and without a final slash."""
    api_key: str | None = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request, in addition to the plugin's own."""
    models: tuple[str, ...] = ()
    """The models that are served; empty if the upstream lists them."""
    supports_compaction: bool = False

    def secret_headers(self) -> dict[str, str]:
        """Return the headers that only the upstream may see."""
        return {**self.headers, **({"authorization": f"Bearer {self.api_key}"} if self.api_key else {})}


def add(services: Services, name: str, connection: Connection, prefix: str = "") -> Upstream:
    """Add an upstream.

    :param prefix: clients request ``prefix/model``; empty for none.
    :raises GatewayError: 409, the name is taken.
    """
    encrypt = services.secrets.encrypt
    with transaction(services.database):
        upstream = upstreams.add(services.database, KIND, name, prefix)
        Connections.insert(
            upstream_id=upstream.id,
            base_url=connection.base_url,
            api_key=encrypt(connection.api_key) if connection.api_key else None,
            headers=encrypt(jsontext.dumps(dict(connection.headers)).decode()),
            models_json=jsontext.dumps(connection.models).decode(),
            compacts=connection.supports_compaction,
        ).execute(services.database)
    return upstream


def list_upstreams(services: Services) -> list[Upstream]:
    """Return the upstreams of this plugin, in the order in which they are tried."""
    return [row for row in upstreams.all_rows(services.database) if row.kind == KIND]


def read(services: Services, upstream: Upstream) -> Connection:
    """Read the connection of an upstream.

    :raises GatewayError: 503, there is none, or it was encrypted with another secret key.
    """
    rows = select(services.database, SELECT_CONNECTION, upstream.id)
    if not rows:
        raise GatewayError(503, "The upstream is not set up: remove it, and add it again.", code="upstream_not_set_up")
    base_url, api_key, headers, models, compacts = rows[0]
    key = services.secrets.decrypt(api_key) if api_key else None
    extra = jsontext.loads(services.secrets.decrypt(headers).encode())
    return Connection(base_url, key, extra, tuple(jsontext.loads(models.encode())), bool(compacts))


def replace_key(services: Services, upstream: Upstream, api_key: str | None) -> None:
    """Use another key from the next request on.

    :raises GatewayError: 404, the upstream has been removed.
    """
    sealed = services.secrets.encrypt(api_key) if api_key else None
    query = Connections.update(api_key=sealed).where(Connections.upstream_id == upstream.id)
    with services.database.connection_context():
        if not query.execute(services.database):
            raise upstreams.unknown(upstream.name)
