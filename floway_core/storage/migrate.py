"""Schema migrations: core's and each plugin's, every source with its own history."""

import contextlib
import math
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import peewee
from playhouse.migrations import Runner

from floway_core import migrations  # type: ignore[attr-defined]  # setup.cfg puts the folder into the package
from floway_core.errors import StartupError
from floway_core.storage.db import limited_time

ADVISORY_LOCK = 0x666C6F776179
"""Key of PostgreSQL's advisory lock; an arbitrary number that every Floway process uses."""

WAL_TIMEOUT_SECONDS = 10
"""How long to wait for other users of an SQLite file before its journal mode can change."""


@dataclass(frozen=True)
class MigrationSource:
    """A folder of migrations, as ``playhouse.migrations`` reads them: ``0001_name.py`` with ``up(migrator, db)``."""

    name: str
    """A lower-case word. The table ``<name>_migrations`` contains the history."""
    folder: Path
    encrypted_columns: tuple[str, ...] = ()
    """Columns with values of ``SecretBox.encrypt``, as ``table.column``. A key rotation encrypts them again."""

    @property
    def table(self) -> str:
        """The table with the history."""
        return f"{self.name}_migrations"


CORE = MigrationSource(
    "floway",
    Path(migrations.__file__).parent,
    ("upstream_connections.api_key", "upstream_connections.headers"),
)


def pending(database: peewee.Database, sources: Iterable[MigrationSource]) -> list[str]:
    """Return the migrations that are not yet applied, as ``source/name``, in the order in which they will run."""
    return [
        f"{source.name}/{migration.name}"
        for source in sources
        for migration in _runner(database, source).status()
        if migration.path and not migration.applied
    ]


def apply(database: peewee.Database, sources: Iterable[MigrationSource]) -> list[str]:
    """Apply all pending migrations in one transaction; return their names as ``pending`` does.

    If several processes start at the same time, one applies the migrations while the others wait.

    :raises StartupError: a migration failed, or the database is newer than this program.
    """
    sources = list(sources)
    with database.connection_context():
        if isinstance(database, peewee.SqliteDatabase):
            _enable_write_ahead_log(database)
        refuse_newer(database, sources)
        if not pending(database, sources):
            return []
        with _schema_change(database):
            names = pending(database, sources)
            for source in sources:
                with _migration_errors(source):
                    _runner(database, source).up()
        return names


def history(database: peewee.Database, sources: Iterable[MigrationSource]) -> list[tuple[str, datetime | None]]:
    """Return (``source/name``, time of application or None) of all migrations, also of unknown ones."""
    return [
        (f"{source.name}/{migration.name}", migration.applied)
        for source in sources
        for migration in _runner(database, source).status()
    ]


def plan_undo(database: peewee.Database, sources: Iterable[MigrationSource], target: str) -> list[str]:
    """Return the migrations that ``undo`` would undo, as ``source/name``, in that order.

    :raises StartupError: ``target`` is not an applied migration.
    """
    source_name, _, name = target.partition("/")
    source = next((source for source in sources if source.name == source_name), None)
    with database.connection_context():
        applied = sorted(_runner(database, source).applied()) if source else []
    if name not in ("0", *applied) or source is None:
        raise StartupError(f"{target!r} is not an applied migration; see: floway migrate list")
    return [f"{source_name}/{migration}" for migration in reversed(applied) if migration > name]


def undo(database: peewee.Database, sources: Iterable[MigrationSource], target: str) -> list[str]:
    """Undo, in one transaction, the migrations of a source that were applied after the migration ``target``.

    :param target: ``source/name``; ``source/0`` undoes all migrations of a source.
    :returns: the undone migrations, as ``plan_undo`` returns them.
    :raises StartupError: a migration failed or cannot be undone, or ``target`` is not an applied migration.
    """
    sources = list(sources)
    with database.connection_context(), _schema_change(database):
        names = plan_undo(database, sources, target)
        source = next(source for source in sources if source.name == target.partition("/")[0])
        if names:
            with _migration_errors(source):
                _runner(database, source).down(names[-1].partition("/")[2])
    return names


def unknown_migrations(database: peewee.Database, sources: Iterable[MigrationSource]) -> list[str]:
    """Return the names of sources that have applied migrations in the database, but are not among ``sources``."""
    with database.connection_context():
        tables = [table for table in database.get_tables() if table.endswith("_migrations")]
        names = sorted({table.removesuffix("_migrations") for table in tables} - {source.name for source in sources})
        return [name for name in names if database.execute_sql(f'SELECT 1 FROM "{name}_migrations"').fetchone()]


@contextlib.contextmanager
def _migration_errors(source: MigrationSource) -> Iterator[None]:
    """:raises StartupError: the block failed; the message names the source."""
    try:
        yield
    except (Exception, SystemExit) as error:  # a migration of a plugin may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise StartupError(f"The migrations of {source.name!r} failed: {reason}") from error


@contextlib.contextmanager
def _schema_change(database: peewee.Database) -> Iterator[None]:
    """As ``exclusive``, but with SQLite's foreign keys off: some changes replace a table, and must not delete the rows
    that refer to it. The references are checked at the end.

    :raises StartupError: a row refers to nothing.
    """
    if not isinstance(database, peewee.SqliteDatabase):
        with exclusive(database):
            yield
        return
    database.pragma("foreign_keys", 0)  # has no effect within a transaction
    try:
        with exclusive(database):
            yield
            broken = {row[0] for row in database.execute_sql("PRAGMA foreign_key_check").fetchall()}
            if broken:
                raise StartupError(f"A migration leaves rows that refer to nothing, in {', '.join(sorted(broken))}.")
    finally:
        database.pragma("foreign_keys", 1)


def _enable_write_ahead_log(database: peewee.SqliteDatabase) -> None:
    """Let readers continue while another connection writes. SQLite stores the mode in the file."""
    deadline = time.monotonic() + WAL_TIMEOUT_SECONDS
    while True:
        try:
            database.pragma("journal_mode", "wal")
            return
        except peewee.OperationalError:  # others use the file; SQLite's busy timeout does not apply here
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _runner(database: peewee.Database, source: MigrationSource) -> Runner:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", source.name) or not source.folder.is_dir():
        raise StartupError(f"Migration source {source.name!r}: the name or the folder {source.folder} is unusable.")
    return Runner(database, str(source.folder), table_name=source.table)


def refuse_newer(database: peewee.Database, sources: Iterable[MigrationSource]) -> None:
    """:raises StartupError: the database is newer than this program."""
    for source in sources:
        unknown = [m.name for m in _runner(database, source).status() if m.path is None]
        if unknown:
            raise StartupError(
                f"The database contains migration {source.name}/{unknown[-1]}, which this version does not know: "
                "it was used by a newer version."
            )


@contextlib.contextmanager
def exclusive(database: peewee.Database) -> Iterator[None]:
    """A transaction that only one process at a time runs."""
    if isinstance(database, peewee.SqliteDatabase):
        with database.atomic("IMMEDIATE"):
            yield
    else:
        # Others may hold the lock for long, and a migration may take longer than a request.
        with limited_time(database, math.inf), database.atomic():
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                database.execute_sql(f"SET LOCAL {name} = 0")
            database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (ADVISORY_LOCK,))
            yield
