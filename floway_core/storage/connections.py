"""Connections of upstreams with a URL and an API key. The secrets are stored encrypted."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from floway_core.contexts import Services, Upstream
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.protocol.headers import CREDENTIALS, NOT_RELAYED
from floway_core.storage import upstreams
from floway_core.storage.configuration import configuration_of
from floway_core.storage.db import select, transaction
from floway_core.storage.tables import UpstreamConnections

SELECT = """
SELECT base_url, api_key, headers, models_json, options_json FROM upstream_connections WHERE upstream_id = ?
"""

RESERVED_HEADERS = NOT_RELAYED | {"accept", "accept-encoding", "content-length", "host", "idempotency-key"}
"""Headers that the operator cannot set, because they describe the message."""


@dataclass(frozen=True)
class Connection:
    """The URL, the key and further options of an upstream."""

    base_url: str
    """With its path, such as ``/v1``, and without a final slash."""
    api_key: str | None = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request, in addition to the provider's own. Names in lower case."""
    models: tuple[str, ...] = ()
    """The models that are served; empty if the upstream lists them."""
    options: Mapping[str, str | bool] = field(default_factory=dict)
    """The options that the provider declares (``UpstreamOption``), by name."""


def add(services: Services, kind: str, name: str, connection: Connection, prefix: str = "") -> Upstream:
    """Add an upstream of provider ``kind``.

    :param prefix: clients request ``prefix/model``; empty for none.
    :raises GatewayError: 400, the name, the prefix or the key is unusable; 409, the name is taken.
    """
    row = _encrypted_row(services, connection)
    with transaction(services.database):
        upstream = upstreams.add(services.database, kind, name, prefix)
        UpstreamConnections.insert(upstream=upstream.id, **row).execute(services.database)
    return upstream


def read(services: Services, upstream: Upstream) -> Connection:
    """Read the connection of an upstream.

    :raises GatewayError: 503, there is none, or it was encrypted with another secret key.
    """
    rows = select(services.database, SELECT, upstream.id)
    if not rows:
        raise GatewayError(503, "The upstream is not set up: remove it, and add it again.", code="upstream_not_set_up")
    base_url, api_key, headers, models, options = rows[0]
    return Connection(
        base_url,
        services.secrets.decrypt(api_key) if api_key else None,
        jsontext.loads(services.secrets.decrypt(headers).encode()),
        tuple(jsontext.loads(models.encode())),
        jsontext.loads(options.encode()),
    )


def read_for_request(services: Services, upstream: Upstream) -> Connection:
    """Return the connection of an upstream as it was when the latest request was authenticated, or newer.

    :raises GatewayError: as ``read``.
    """
    return configuration_of(services.database).get((Connection, upstream.id), lambda: read(services, upstream))


def change(services: Services, upstream: Upstream, **changes: Any) -> None:
    """Change some fields of a connection, from the next request on.

    :param changes: fields of ``Connection``.
    :raises GatewayError: 400, the key is unusable; 404, the upstream has been removed; 503, what is stored cannot be
        decrypted.
    """
    row = _encrypted_row(services, replace(read(services, upstream), **changes))
    with transaction(services.database):
        query = UpstreamConnections.update(**row).where(UpstreamConnections.upstream == upstream.id)
        if not query.execute(services.database):
            raise upstreams.unknown(upstream.name)
    configuration_of(services.database).refresh(services.database)


def _encrypted_row(services: Services, connection: Connection) -> dict[str, Any]:
    if connection.api_key is not None:
        check_key(connection.api_key)
    encrypt = services.secrets.encrypt
    return {
        "base_url": connection.base_url,
        "api_key": encrypt(connection.api_key) if connection.api_key else None,
        "headers": encrypt(jsontext.dumps(dict(connection.headers)).decode()),
        "models_json": jsontext.dumps(connection.models).decode(),
        "options_json": jsontext.dumps(dict(connection.options)).decode(),
    }


def check_key(api_key: str) -> None:
    """Check an API key.

    :raises GatewayError: 400. The message does not quote it.
    """
    if not re.fullmatch(r"[!-~]+", api_key):
        message = "This is no API key: one line of printable ASCII is expected."
        raise GatewayError(400, message, param="api_key", code="invalid_value")


def parse_header(text: str) -> tuple[str, str]:
    """Parse ``name: value``, a header for all requests to an upstream.

    :returns: (name in lower case, value).
    :raises ValueError: the text is no header, or one that cannot be set. The message does not quote it.
    """
    match = re.fullmatch(r"\s*([\w!#$%&'*+.^`|~-]+)\s*:\s*([ -~]*?)\s*", text, re.ASCII)
    if not match:
        raise ValueError("'name: value' is expected")
    name, value = match[1].lower(), match[2]
    if name in CREDENTIALS:
        raise ValueError(f"{name} holds the key, which is read from a file or asked for")
    if name in RESERVED_HEADERS:
        raise ValueError(f"{name} cannot be set")
    return name, value
