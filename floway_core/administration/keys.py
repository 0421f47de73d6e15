"""The API keys of clients: list, create, change, revoke, delete."""

from floway_core.storage.key_options import MAX_LIMITS, Options
from floway_core.storage.keys import KeyRow, all_rows, change, create, delete, find, revoke

__all__ = ["MAX_LIMITS", "KeyRow", "Options", "all_rows", "change", "create", "delete", "find", "revoke"]
