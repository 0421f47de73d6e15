"""Encrypted values in the database: check the secret key against them, and rotate the key.

The table ``secret_checks`` has one encrypted text for every secret key in use, the newest last. A key that decrypts
none of them has not encrypted anything yet; a key that does not decrypt the newest one is outdated.
"""

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import peewee

from floway_core.errors import StartupError
from floway_core.secrets import DecryptionError, SecretBox
from floway_core.storage.db import execute, select
from floway_core.storage.migrate import MigrationSource, exclusive

CHECK_TEXT = "floway"

STALE = "The secret key is an old key of this database: it has been rotated since."
FOREIGN = "The secret key is not the key of this database, and cannot decrypt anything in it."
REMEDY = "Use the file secret.key of a host with the right key, or of the backup of the database."


@dataclass(frozen=True)
class Reencryption:
    """The result of ``reencrypt``."""

    changed: int
    """Number of values that had been encrypted with another key."""
    unreadable: Sequence[str]
    """``table.column`` of each value that no key decrypts. It does not change."""


# ------------------------------------------------------------------------------------------------------------- checks
def read_checks(database: peewee.Database) -> list[str]:
    """Return the encrypted texts of ``secret_checks``, the oldest first."""
    return [encrypted for (encrypted,) in select(database, "SELECT sealed FROM secret_checks ORDER BY id")]


def is_current(database: peewee.Database, box: SecretBox) -> bool:
    """Whether ``box`` has the newest secret key of the database. A new database adopts the key of ``box``."""
    checks = read_checks(database)
    if not checks:
        with database.connection_context(), exclusive(database):
            if not read_checks(database):
                _add_check(database, box)
            checks = read_checks(database)  # here: another new host may delete them, as ``forget_keys``
    return box.can_decrypt(checks[-1])


def describe_mismatch(database: peewee.Database, box: SecretBox) -> str | None:
    """Return what is wrong with the secret key of ``box``; None if it is the database's newest one, or the first."""
    checks = read_checks(database)
    if not checks or box.can_decrypt(checks[-1]):
        return None
    return STALE if any(map(box.can_decrypt, checks)) else FOREIGN


def find_unused_keys(database: peewee.Database, keys: Iterable[str]) -> list[str]:
    """Return those of ``keys`` that have encrypted nothing yet."""
    checks = read_checks(database)
    return [key for key in keys if not any(map(SecretBox(key).can_decrypt, checks))]


def forget_keys(database: peewee.Database) -> None:
    """Delete the checks of all secret keys. The database adopts the next key."""
    with database.connection_context():
        execute(database, "DELETE FROM secret_checks")


def forget_unreadable(database: peewee.Database, columns: Sequence[str], box: SecretBox) -> int:
    """Delete the encrypted values that ``box`` does not decrypt, and adopt its key; return their number.

    :param columns: as ``list_columns`` returns them.
    """
    forgotten = 0
    with database.connection_context(), exclusive(database):
        for column in columns:
            table, _, name = column.partition(".")
            for value in read_values(database, column):
                if not box.can_decrypt(value):
                    execute(database, f"UPDATE {table} SET {name} = '' WHERE {name} = ?", value)
                    forgotten += 1
        execute(database, "DELETE FROM secret_checks")
        _add_check(database, box)
    return forgotten


def _add_check(database: peewee.Database, box: SecretBox) -> None:
    next_id = "SELECT COALESCE(MAX(id), 0) + 1, ? FROM secret_checks"
    execute(database, f"INSERT INTO secret_checks (id, sealed) {next_id}", box.encrypt(CHECK_TEXT))


# ----------------------------------------------------------------------------------------------------------- rotation
def list_columns(sources: Iterable[MigrationSource]) -> list[str]:
    """Return every column with encrypted values, as ``table.column``.

    :raises StartupError: a source declares something else.
    """
    declared = [(source, column) for source in sources for column in source.encrypted_columns]
    for source, column in declared:
        if not re.fullmatch(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*", column):
            raise StartupError(f"Migration source {source.name!r}: {column!r} is not TABLE.COLUMN.")
    return [column for _, column in declared]


def read_values(database: peewee.Database, column: str) -> list[str]:
    """Return the encrypted values of a column. The empty text and NULL mean no value.

    :param column: as ``table.column``.
    :raises StartupError: there is no such column.
    """
    table, _, name = column.partition(".")
    with database.connection_context() if database.is_closed() else contextlib.nullcontext():
        existing = [column.name for column in database.get_columns(table)]
    if name not in existing:
        raise StartupError(f"The column {column!r} does not exist, though a plugin names it as an encrypted one.")
    return [value for (value,) in select(database, f"SELECT {name} FROM {table} WHERE {name} <> ''")]


def reencrypt(database: peewee.Database, columns: Sequence[str], keys: Sequence[str]) -> Reencryption:
    """Encrypt the values of ``columns`` with the first of ``keys``, in one transaction.

    :param columns: as ``list_columns`` returns them.
    :param keys: the new key, then the old ones.
    :raises StartupError: the newest key of the database is not among ``keys``.
    """
    box, new_box = SecretBox("\n".join(keys)), SecretBox(keys[0])
    changed, unreadable = 0, []
    with database.connection_context():
        if isinstance(database, peewee.SqliteDatabase):
            database.pragma("secure_delete", 1)  # old values must not stay in free pages of the file
        with exclusive(database):
            if not is_current(database, box):
                raise StartupError(f"{describe_mismatch(database, box)} {REMEDY}")
            for column in columns:
                table, _, name = column.partition(".")
                for value in read_values(database, column):
                    try:
                        if not new_box.can_decrypt(value):
                            # Encrypted values are unique, so the value identifies its row. If the row has changed
                            # meanwhile, it keeps the new value.
                            sql = f"UPDATE {table} SET {name} = ? WHERE {name} = ?"
                            changed += execute(database, sql, new_box.encrypt(box.decrypt(value)), value).rowcount
                    except DecryptionError:
                        unreadable.append(column)
            if find_unused_keys(database, keys[:1]):
                _add_check(database, new_box)
        _truncate_write_ahead_log(database)
    return Reencryption(changed, unreadable)


def retire_older_keys(database: peewee.Database, key: str) -> None:
    """Delete the checks of all secret keys that are older than ``key``."""
    box = SecretBox(key)
    with database.connection_context():
        rows = select(database, "SELECT id, sealed FROM secret_checks ORDER BY id")
        own = [row for row, check in rows if box.can_decrypt(check)]
        for row, _ in rows:
            if own and row < own[-1] and row not in own:
                execute(database, "DELETE FROM secret_checks WHERE id = ?", row)
        _truncate_write_ahead_log(database)


def _truncate_write_ahead_log(database: peewee.Database) -> None:
    """Move SQLite's log into the file, as far as other connections allow: the log still contains old values."""
    if isinstance(database, peewee.SqliteDatabase):
        database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
