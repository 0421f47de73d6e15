"""What is sealed in the database: which keys it fits, and sealing it anew when the secret key is rotated.

The table ``secret_checks`` has a word for every secret key in use, the newest at its end: a key that opens none of them
has sealed nothing yet, and one that does not open the newest is out of date.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import peewee

from floway_core.errors import StartupError
from floway_core.secrets import DecryptionError, SecretBox
from floway_core.storage.db import execute, select
from floway_core.storage.migrate import MigrationSource, exclusive

WORD = "floway"

STALE = "The secret key is an old one of this database: it has been rotated since."
FOREIGN = "The secret key is another one than that of this database, and opens nothing that is stored there."
REMEDY = "Take the file secret.key of a host that can open it, or of the backup that belongs to the database."


@dataclass(frozen=True)
class Renewal:
    """What came of sealing everything anew."""

    renewed: int
    """Values that were sealed with another key before."""
    unreadable: Sequence[str]
    """``table.column`` of each value that no key opens; it stays as it is."""


# -------------------------------------------------------------------------------------------------------------- words
def words(database: peewee.Database) -> list[str]:
    """The sealed words, the oldest first."""
    return [sealed for (sealed,) in select(database, "SELECT sealed FROM secret_checks ORDER BY id")]


def is_current(database: peewee.Database, box: SecretBox) -> bool:
    """Whether ``box`` has the newest secret key of the database. A new database takes the one in ``box``."""
    if not words(database):
        with database.connection_context(), exclusive(database):
            if not words(database):
                _add_word(database, box)
    return box.opens(words(database)[-1])


def mismatch(database: peewee.Database, box: SecretBox) -> str | None:
    """What is wrong with the secret key in ``box``; None if it is the newest of the database, or that has none yet."""
    found = words(database)
    if not found or box.opens(found[-1]):
        return None
    return STALE if any(map(box.opens, found)) else FOREIGN


def unused(database: peewee.Database, keys: Iterable[str]) -> list[str]:
    """Those of ``keys`` with which nothing has been sealed yet."""
    found = words(database)
    return [key for key in keys if not any(SecretBox(key).opens(word) for word in found)]


def _add_word(database: peewee.Database, box: SecretBox) -> None:
    next_id = "SELECT COALESCE(MAX(id), 0) + 1, ? FROM secret_checks"
    execute(database, f"INSERT INTO secret_checks (id, sealed) {next_id}", box.encrypt(WORD))


# ----------------------------------------------------------------------------------------------------------- rotation
def columns(sources: Iterable[MigrationSource]) -> list[str]:
    """Every column with sealed values, as ``table.column``.

    :raises StartupError: a source names something else.
    """
    named = [(source, name) for source in sources for name in source.sealed]
    for source, name in named:
        if not re.fullmatch(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*", name):
            raise StartupError(f"Migration source {source.name!r}: {name!r} is not TABLE.COLUMN.")
    return [name for _, name in named]


def values(database: peewee.Database, column: str) -> list[str]:
    """What is in a column of sealed values; empty and NULL stand for none."""
    table, _, name = column.partition(".")
    return [value for (value,) in select(database, f"SELECT {name} FROM {table} WHERE {name} <> ''")]


def renew(database: peewee.Database, sealed: Sequence[str], keys: Sequence[str]) -> Renewal:
    """Seal what is in the columns ``sealed`` with the first of ``keys``, all of it or nothing.

    :param keys: all of them open.
    :raises StartupError: the newest key of the database is not among them.
    """
    box, first = SecretBox("\n".join(keys)), SecretBox(keys[0])
    renewed, unreadable = 0, []
    with database.connection_context():
        if isinstance(database, peewee.SqliteDatabase):
            database.pragma("secure_delete", 1)  # what the old key opens is not to stay in the file's free space
        with exclusive(database):
            if not is_current(database, box):
                raise StartupError(f"{mismatch(database, box)} {REMEDY}")
            for column in sealed:
                table, _, name = column.partition(".")
                for value in values(database, column):
                    try:
                        if not first.opens(value):
                            # Found by itself, because every sealed value is another; one that is new by now stays.
                            sql = f"UPDATE {table} SET {name} = ? WHERE {name} = ?"
                            renewed += execute(database, sql, first.encrypt(box.open(value)), value).rowcount
                    except DecryptionError:
                        unreadable.append(column)
            if unused(database, keys[:1]):
                _add_word(database, first)
        _empty_log(database)
    return Renewal(renewed, unreadable)


def retire(database: peewee.Database, key: str) -> None:
    """Forget all secret keys that are older than ``key``."""
    box = SecretBox(key)
    with database.connection_context():
        rows = select(database, "SELECT id, sealed FROM secret_checks ORDER BY id")
        opened = [row for row, word in rows if box.opens(word)]
        for row, _ in rows:
            if opened and row < opened[-1] and row not in opened:
                execute(database, "DELETE FROM secret_checks WHERE id = ?", row)
        _empty_log(database)


def _empty_log(database: peewee.Database) -> None:
    """Move what was written into the file itself, as far as others let it: the log still holds what was there."""
    if isinstance(database, peewee.SqliteDatabase):
        database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
