"""The aliases of models: list, set, remove."""

from floway_core.storage.aliases import NO_OVERRIDES, AliasRow, Overrides, all_rows, find, put, remove

__all__ = ["NO_OVERRIDES", "AliasRow", "Overrides", "all_rows", "find", "put", "remove"]
