"""Delete on a full disk: SQLite needs space to delete, so some space is reserved."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import peewee

from floway_core.storage.db import execute, transaction

Result = TypeVar("Result")

log = logging.getLogger("floway.storage")

RESERVE_BYTES = 4 * 2**20
"""Space for the write-ahead log of some deletions. It is needed only until the freed pages are reused."""

SUFFIX = "-reserve"
"""Suffix of the file that reserves the space, in the folder of the database."""


def fill_reserve(database: peewee.Database) -> None:
    """Reserve the space, unless it is already reserved or the disk is full. Only for SQLite with a file."""
    file = _reserve_file(database)
    if file is None or (file.exists() and file.stat().st_size >= RESERVE_BYTES):
        return
    try:
        with open(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "wb") as reserve:
            os.posix_fallocate(reserve.fileno(), 0, RESERVE_BYTES)
    except OSError as error:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
        log.warning("No space could be reserved for deletions on a full disk: %s", error.strerror)


def delete_despite_full_disk(database: peewee.Database, delete: Callable[[], Result]) -> Result:
    """Call ``delete``. If the disk is full, free the reserve and call it again.

    :param delete: runs one transaction.
    :returns: the result of ``delete``.
    :raises peewee.PeeweeException: it failed again, or for another reason.
    """
    try:
        return delete()
    except peewee.OperationalError as error:
        file = _reserve_file(database)
        if file is None or not is_full(error):
            raise
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
            log.warning("The disk is full: gave up the space that was reserved for deletions")
    with _without_overwriting(database):
        result = delete()
    fill_reserve(database)
    return result


@contextlib.contextmanager
def _without_overwriting(database: peewee.Database) -> Iterator[None]:
    """Do not overwrite deleted data, as some builds of SQLite do: it needs as much space as the data."""
    with transaction(database):
        ((before,),) = execute(database, "PRAGMA secure_delete").fetchall()
        execute(database, "PRAGMA secure_delete = 0")
        try:
            yield
        finally:
            execute(database, f"PRAGMA secure_delete = {int(before)}")


def is_full(error: peewee.PeeweeException) -> bool:
    """Return whether SQLite failed because the disk or a quota is full."""
    text = str(error)
    return "disk is full" in text or "disk I/O error" in text


def _reserve_file(database: peewee.Database) -> Path | None:
    if not isinstance(database, peewee.SqliteDatabase) or not os.path.isabs(database.database):
        return None
    return Path(database.database + SUFFIX)
