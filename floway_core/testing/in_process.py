"""A look inside an installation: its database, and its plugin's hooks called in this process."""

import contextlib
import copy
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from playhouse.migrations import Runner

from floway_core.contexts import ApiKey, AttemptContext, ClientRequest, ResponsesRequestContext
from floway_core.engine import routing
from floway_core.runtime import plugins
from floway_core.runtime.gateway import open_gateway, read_settings
from floway_core.storage import db, migrate, upstreams
from floway_core.storage.migrate import CORE, MigrationSource
from floway_core.testing.gateway import Installation

BYSTANDER = '''"""A provider that answers with what it was given."""

import json

from floway_core.hookspecs import hookimpl
from floway_core.provider import IterableBody, Model, Provider, UpstreamResponse


class Bystander(Provider):
    kind = "bystander"

    def list_models(self, upstream):
        return [Model("bystander", "test")]

    def send(self, ctx):
        got = json.dumps({"state": ctx.attempt.provider_state, "headers": ctx.headers, "body": ctx.body})
        content = [{"type": "output_text", "text": got, "annotations": []}]
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        answer = json.dumps({"id": "resp_1", "object": "response", "status": "completed", "output": [message]})
        return UpstreamResponse(200, [("content-type", "application/json")], IterableBody([answer.encode()]))


@hookimpl
def register_providers(services):
    return [Bystander()]
'''


# ------------------------------------------------------------------------------------------------------------- hooks
class _StayingClient:
    def fileno(self) -> None:
        return None

    def is_closed(self) -> bool:
        return False

    def shutdown_fileno(self) -> None:
        return None


class OpenedGateway:
    """The gateway of an installation, opened in this process with one plugin alone. A context manager."""

    def __init__(self, installation: Installation, plugin: str) -> None:
        manager = plugins.build_plugin_manager(only=[plugin])
        self._gateway = open_gateway(read_settings(manager, installation.environ), manager)
        self.migrations: MigrationSource | None = dict(plugins.named_migration_sources(manager)).get(plugin)

    def begin(self, model: str, text: str) -> AttemptContext:
        """An attempt whose first hook has run."""
        api_key = ApiKey("key_1", "test")
        candidate = routing.find_candidates(self._gateway, api_key, model)[0]
        given = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]
        body = {"model": model, "input": given, "stream": True}
        request = ClientRequest(str(uuid.uuid4()), api_key, {}, body, True, _StayingClient())
        attempt = AttemptContext(
            id=str(uuid.uuid4()),
            request=request,
            upstream=candidate.upstream,
            provider=self._gateway.providers.by_kind[candidate.upstream.kind],
            model=candidate.upstream_name,
        )
        self._hooks(attempt).call("on_attempt_start", attempt)
        return attempt

    def prepare(self, attempt: AttemptContext, dispatch: int) -> ResponsesRequestContext:
        """One request about to be sent, made from a fresh copy."""
        body = {**copy.deepcopy(attempt.request.body), "model": attempt.model}
        context = ResponsesRequestContext(attempt, dispatch, body)
        self._hooks(attempt).call("prepare_responses_request", context)
        return context

    def model_lists(self) -> Iterator[list[str] | None]:
        """The models of the plugin's upstream: when waited for, at hand then, when it is asked anew, at hand then."""
        rows = upstreams.all_rows(self._gateway.services.database)
        upstream = next(row for row in rows if row.kind in self._gateway.providers.by_kind)
        provider = self._gateway.providers.by_kind[upstream.kind]
        at_hand = provider.cached_models
        for ask in (provider.list_models, at_hand, provider.fetch_models, at_hand):
            found = ask(upstream)
            yield None if found is None else [model.id for model in found]

    def _hooks(self, attempt: AttemptContext) -> plugins.ScopedHooks:
        return self._gateway.providers.hooks[attempt.upstream.kind]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._gateway.services.database.close_all()


# ---------------------------------------------------------------------------------------------------------- database
@contextlib.contextmanager
def _connected(file: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(file, timeout=10)) as connection, connection:
        yield connection


def row_counts(file: Path) -> dict[str, int]:
    """How many rows each table of a SQLite file has, but for the usage, which is stored every now and then."""
    with _connected(file) as connection:
        tables = set(_tables(connection)) - {"usage"}
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in sorted(tables)}


def sealed_texts(file: Path) -> set[str]:
    """Everything in a SQLite file that looks as if ``services.secrets`` had sealed it."""
    found: set[str] = set()
    with _connected(file) as connection:
        for table in _tables(connection):
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                found.update(value for value in row if isinstance(value, str) and value.startswith("gAAAA"))
    return found


def _tables(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def texts_in(file: Path, table: str, column: str, response_id: str) -> list[Any]:
    """A column of the rows that belong to a response."""
    with _connected(file) as connection:
        rows = connection.execute(f"SELECT {column} FROM {table} WHERE response_id = ?", (response_id,))
        return [value for (value,) in rows]


@contextlib.contextmanager
def failing_commits(file: Path) -> Iterator[None]:
    """No response can be stored meanwhile: the database refuses the last rows of each."""
    with _connected(file) as connection:
        connection.execute(
            "CREATE TRIGGER refuse_items BEFORE INSERT ON responses_items BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    try:
        yield
    finally:
        with _connected(file) as connection:
            connection.execute("DROP TRIGGER refuse_items")


def migrated_twice(folder: Path, source: MigrationSource) -> tuple[dict[str, str], ...]:
    """The schema with core's tables alone, with those of ``source``, without them, and with them again."""
    database = db.connect(f"sqlite:///{folder}/migrated.db")
    history = f"{source.name}_migrations"

    def schema() -> dict[str, str]:
        with database.connection_context():
            rows = database.execute_sql("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
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
    database.close_all()
    return tuple(schemas)
