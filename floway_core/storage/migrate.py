"""Schema migrations: core's and each plugin's, every source with its own history."""

import contextlib
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import peewee
from playhouse.migrations import Runner

from floway_core import migrations
from floway_core.errors import StartupError

# Any number will do, as long as every Floway uses the same one.
ADVISORY_LOCK = 0x666C6F776179

PATIENCE = 10
"""Seconds to wait for others who use a file."""


@dataclass(frozen=True)
class MigrationSource:
    """A folder of migrations, as ``playhouse.migrations`` reads them: ``0001_name.py`` with ``up(migrator, db)``."""

    name: str
    """Lower-case word; the history is kept in the table ``<name>_migrations``."""
    folder: Path
    sealed: tuple[str, ...] = ()
    """The columns that hold sealed texts, as ``table.column``: they are sealed anew when the secret key changes."""

    @property
    def table(self) -> str:
        """The table of its history."""
        return f"{self.name}_migrations"


CORE = MigrationSource("floway", Path(migrations.__file__).parent)


def pending(database: peewee.Database, sources: Iterable[MigrationSource]) -> list[str]:
    """Migrations not yet applied, as ``source/name``, in the order in which they will run."""
    return [
        f"{source.name}/{migration.name}"
        for source in sources
        for migration in _runner(database, source).status()
        if migration.path and not migration.applied
    ]


def apply(database: peewee.Database, sources: Iterable[MigrationSource]) -> list[str]:
    """Apply what is pending, all of it or nothing, and return it as ``pending`` does.

    Processes that start at the same time take turns; the later ones find nothing to do.

    :raises StartupError: a migration failed, or the database is newer than this program.
    """
    sources = list(sources)
    with database.connection_context():
        if isinstance(database, peewee.SqliteDatabase):
            _log_ahead(database)
        refuse_newer(database, sources)
        if not pending(database, sources):
            return []
        with _schema_change(database):
            names = pending(database, sources)
            for source in sources:
                with _blamed(source):
                    _runner(database, source).up()
        return names


def history(database: peewee.Database, sources: Iterable[MigrationSource]) -> list[tuple[str, datetime | None]]:
    """(``source/name``, when it was applied or None) of all migrations, those that this program does not know too."""
    return [
        (f"{source.name}/{migration.name}", migration.applied)
        for source in sources
        for migration in _runner(database, source).status()
    ]


def to_undo(database: peewee.Database, sources: Iterable[MigrationSource], target: str) -> list[str]:
    """What ``undo`` would undo, as ``source/name``, in that order.

    :raises StartupError: ``target`` is no migration that is applied.
    """
    source, _, name = target.partition("/")
    found = {each.name: each for each in sources}.get(source)
    with database.connection_context():
        applied = sorted(_runner(database, found).applied()) if found else []
    if found is None or name not in ("0", *applied):
        raise StartupError(f"{target!r} is no migration that is applied; see: floway migrate list")
    return [f"{source}/{each}" for each in reversed(applied) if each > name]


def undo(database: peewee.Database, sources: Iterable[MigrationSource], target: str) -> list[str]:
    """Go back to the schema as it was when the migration ``target`` had been applied; all of it or nothing.

    :param target: ``source/name``; ``source/0`` undoes all migrations of a source.
    :returns: what was undone, as ``to_undo`` gives it.
    :raises StartupError: a migration failed or cannot be undone, or ``target`` is none that is applied.
    """
    sources = list(sources)
    with database.connection_context(), _schema_change(database):
        names = to_undo(database, sources, target)
        source = next(each for each in sources if each.name == target.partition("/")[0])
        if names:
            with _blamed(source):
                _runner(database, source).down(names[-1].partition("/")[2])
    return names


def unknown_migrations(database: peewee.Database, sources: Iterable[MigrationSource]) -> list[str]:
    """Names of sources that are not among ``sources``, and some of whose migrations are applied."""
    with database.connection_context():
        found = {table.removesuffix("_migrations") for table in database.get_tables() if table.endswith("_migrations")}
        names = sorted(found - {source.name for source in sources})
        return [name for name in names if database.execute_sql(f'SELECT 1 FROM "{name}_migrations"').fetchone()]


@contextlib.contextmanager
def _blamed(source: MigrationSource) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a migration is a program of its own, and perhaps a stranger's
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise StartupError(f"The migrations of {source.name!r} failed: {reason}") from error


@contextlib.contextmanager
def _schema_change(database: peewee.Database) -> Iterator[None]:
    """As ``alone``. SQLite changes some tables by making them anew, and what refers to them must not go meanwhile."""
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


def _log_ahead(database: peewee.SqliteDatabase) -> None:
    """Let readers go on while one writes. The file remembers it, so it is changed once."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            database.pragma("journal_mode", "wal")
            return
        except peewee.OperationalError:  # in use by others: for this SQLite does not wait
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
                f"The database holds migration {source.name}/{unknown[-1]}, which this version does not know: "
                "it was used by a newer version."
            )


@contextlib.contextmanager
def exclusive(database: peewee.Database) -> Iterator[None]:
    """A transaction that no other process runs at the same time."""
    if isinstance(database, peewee.SqliteDatabase):
        with database.atomic("IMMEDIATE"):
            yield
    else:
        with database.atomic():
            database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (ADVISORY_LOCK,))
            yield
