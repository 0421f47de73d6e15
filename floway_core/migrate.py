"""Schema migrations: core's and each plugin's, every source with its own history."""

import contextlib
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
        _refuse_newer(database, sources)
        if not pending(database, sources):
            return []
        with _alone(database):
            names = pending(database, sources)
            for source in sources:
                try:
                    _runner(database, source).up()
                except Exception as error:  # a migration is a program of its own, and perhaps a stranger's
                    reason = " ".join(f"{type(error).__name__}: {error}".split())
                    raise StartupError(f"The migrations of {source.name!r} failed: {reason}") from error
        return names


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
    return Runner(database, str(source.folder), table_name=f"{source.name}_migrations")


def _refuse_newer(database: peewee.Database, sources: Iterable[MigrationSource]) -> None:
    for source in sources:
        unknown = [m.name for m in _runner(database, source).status() if m.path is None]
        if unknown:
            raise StartupError(
                f"The database holds migration {source.name}/{unknown[-1]}, which this version does not know: "
                "it was used by a newer version."
            )


@contextlib.contextmanager
def _alone(database: peewee.Database) -> Iterator[None]:
    """A transaction that no other process runs at the same time."""
    if isinstance(database, peewee.SqliteDatabase):
        with database.atomic("IMMEDIATE"):
            yield
    else:
        with database.atomic():
            database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (ADVISORY_LOCK,))
            yield
