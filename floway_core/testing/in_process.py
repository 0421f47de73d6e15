"""Inspecting an installation: its database, and its plugin's hooks called in this process."""

import contextlib
import copy
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from playhouse.migrations import Runner

from floway_core.contexts import ApiKey, AttemptContext, ClientRequest, ResponsesRequestContext, Upstream
from floway_core.engine import routing
from floway_core.protocol.lazy_items import LazyItems
from floway_core.provider import Provider
from floway_core.runtime import plugins
from floway_core.runtime.gateway import open_gateway, read_settings
from floway_core.runtime.lifecycle import ScopedHooks
from floway_core.storage import db, migrate, upstreams
from floway_core.storage.db import close_connections
from floway_core.storage.migrate import CORE, MigrationSource
from floway_core.testing.installation import Installation

OTHER_PROVIDER = '''"""A provider whose response contains the request that it received."""

import json

from floway_core.hookspecs import hookimpl
from floway_core.provider import IterableBody, Model, Provider, UpstreamResponse


class OtherProvider(Provider):
    kind = "other"

    def list_models(self, upstream):
        return [Model("other", "test")]

    def send(self, ctx):
        received = json.dumps({"state": ctx.attempt.provider_state, "headers": ctx.headers, "body": ctx.body})
        content = [{"type": "output_text", "text": received, "annotations": []}]
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        response = json.dumps({"id": "resp_1", "object": "response", "status": "completed", "output": [message]})
        return UpstreamResponse(200, [("content-type", "application/json")], IterableBody([response.encode()]))


@hookimpl
def register_providers(services):
    return [OtherProvider()]
'''


# ------------------------------------------------------------------------------------------------------------- hooks
class _ConnectedClient:
    """A client that never disconnects."""

    def fileno(self) -> None:
        return None

    def is_closed(self) -> bool:
        return False

    def shutdown_fileno(self) -> None:
        return None


class OpenedGateway:
    """The gateway of an installation, opened in this process with only one plugin. A context manager."""

    def __init__(self, installation: Installation, plugin: str) -> None:
        manager = plugins.build_plugin_manager(only=[plugin])
        self.gateway = open_gateway(read_settings(manager, installation.environ), manager)
        self.migrations: MigrationSource | None = dict(plugins.named_migration_sources(manager)).get(plugin)

    @property
    def upstream(self) -> Upstream:
        """The plugin's upstream."""
        rows = upstreams.all_rows(self.gateway.services.database)
        return next(row for row in rows if row.kind in self.gateway.providers.by_kind)

    @property
    def provider(self) -> Provider:
        """The provider of the plugin's upstream."""
        return self.gateway.providers.by_kind[self.upstream.kind]

    def begin(self, model: str, text: str, /, **fields: Any) -> AttemptContext:
        """Start an attempt: ``on_attempt_start`` has run.

        :param text: the input.
        :param fields: of the request body; ``input`` replaces ``text``.
        """
        api_key = ApiKey("key_1", "test")
        candidate = routing.find_candidates(self.gateway, api_key, model)[0]
        input_items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]
        body = {"model": model, "input": input_items, "stream": True, **fields}
        request = ClientRequest(str(uuid.uuid4()), api_key, {}, body, True, _ConnectedClient())
        attempt = AttemptContext(
            id=str(uuid.uuid4()),
            request=request,
            upstream=candidate.upstream,
            provider=self.gateway.providers.by_kind[candidate.upstream.kind],
            model=candidate.upstream_name,
        )
        self._hooks(attempt).call("on_attempt_start", attempt)
        return attempt

    def prepare(self, attempt: AttemptContext, dispatch: int) -> ResponsesRequestContext:
        """Prepare a dispatch: ``prepare_responses_request`` has run on a fresh copy of the body, a shallow one if the
        provider accepts that."""
        body = {**attempt.request.body, "model": attempt.model}
        if self.provider.accepts_shallow_copy:
            body["input"] = LazyItems(body["input"])
        else:
            body = copy.deepcopy(body)
        context = ResponsesRequestContext(attempt, dispatch, body)
        self._hooks(attempt).call("prepare_responses_request", context)
        return context

    def model_lists(self) -> Iterator[list[str] | None]:
        """Yield the models of the plugin's upstream: listed, then cached, then fetched again, then cached."""
        provider, cached = self.provider, self.provider.cached_models
        for list_models in (provider.list_models, cached, provider.fetch_models, cached):
            models = list_models(self.upstream)
            yield None if models is None else [model.id for model in models]

    def _hooks(self, attempt: AttemptContext) -> ScopedHooks:
        return self.gateway.providers.hooks[attempt.upstream.kind]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        close_connections(self.gateway.services.database)


# ---------------------------------------------------------------------------------------------------------- database
@contextlib.contextmanager
def _connect(file: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(file, timeout=10)) as connection, connection:
        yield connection


def row_counts(file: Path) -> dict[str, int]:
    """Count the rows of each table of a SQLite file, except for the usage, which is stored at intervals."""
    with _connect(file) as connection:
        tables = set(_tables(connection)) - {"usage"}
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in sorted(tables)}


def sealed_texts(file: Path) -> set[str]:
    """Return all values in a SQLite file that look as if ``services.secrets`` had encrypted them."""
    texts: set[str] = set()
    with _connect(file) as connection:
        for table in _tables(connection):
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                texts.update(value for value in row if isinstance(value, str) and value.startswith("gAAAA"))
    return texts


def _tables(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def texts_in(file: Path, table: str, column: str, response_id: str) -> list[Any]:
    """Return one column of the rows that belong to a response."""
    with _connect(file) as connection:
        rows = connection.execute(f"SELECT {column} FROM {table} WHERE response_id = ?", (response_id,))
        return [value for (value,) in rows]


@contextlib.contextmanager
def failing_commits(file: Path) -> Iterator[None]:
    """Let the storage of every response fail in the meantime: the database rejects its last rows."""
    with _connect(file) as connection:
        connection.execute(
            "CREATE TRIGGER refuse_items BEFORE INSERT ON responses_items BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    try:
        yield
    finally:
        with _connect(file) as connection:
            connection.execute("DROP TRIGGER refuse_items")


def migrated_twice(folder: Path, source: MigrationSource) -> tuple[dict[str, str], ...]:
    """Migrate an empty database, and revert and repeat the migrations of a plugin.

    :returns: SQL by table: with core's tables only, with those of ``source``, without them, and with them again.
    """
    database = db.connect(f"sqlite:///{folder}/migrated.db")
    history = f"{source.name}_migrations"

    def schema() -> dict[str, str]:
        with database.connection_context():
            query = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
            rows = database.execute_sql(query).fetchall()
        return {name: sql for name, sql in rows if not name.startswith(history)}

    migrate.apply(database, [CORE])
    schemas = [schema()]
    migrate.apply(database, [CORE, source])
    schemas.append(schema())
    with database.connection_context():
        runner = Runner(database, str(source.folder), table_name=history)
        runner.down(target=min(runner.applied()))
    schemas.append(schema())
    migrate.apply(database, [CORE, source])
    schemas.append(schema())
    close_connections(database)
    return tuple(schemas)
