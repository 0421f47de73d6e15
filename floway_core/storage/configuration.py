"""What requests read of the configuration (keys, upstreams, connections, aliases), kept until it changes.

Each request would need several queries to find out that nothing has changed. Triggers of the database let a number grow
with every change, whichever process makes it (migration 0015), so one query for this number is enough.
"""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import peewee

from floway_core.storage.db import select

T = TypeVar("T")


class ConfigurationCache:
    """Values that were read from the configuration at one version or later. Thread-safe."""

    def __init__(self) -> None:
        self._version = 0
        self._values: dict[Hashable, Any] = {}
        """Replaced as a whole: a thread that has read an old value may only add it to an old dictionary."""

    def refresh(self, database: peewee.Database) -> None:
        """Forget all values if the configuration has changed. Every request does so at its beginning."""
        ((version,),) = select(database, "SELECT version FROM configuration_version")
        if version != self._version:
            self._values = {}
            self._version = version

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return the value of ``key``, at least as new as the last ``refresh`` that returned before.

        :param read: reads it from the database. None is not kept: there is no end to what does not exist.
        """
        values = self._values
        value: T | None = values.get(key)
        if value is None:
            value = read()
            if value is not None:
                values[key] = value
        return value  # type: ignore[return-value]  # T may include None


_caches: "WeakKeyDictionary[peewee.Database, ConfigurationCache]" = WeakKeyDictionary()


def configuration_of(database: peewee.Database) -> ConfigurationCache:
    """Return the cache of a database; the same one for all callers in this process."""
    cache = _caches.get(database)
    return _caches.setdefault(database, ConfigurationCache()) if cache is None else cache
