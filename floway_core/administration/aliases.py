"""The aliases of models: list, set, remove; and their targets as texts."""

from collections.abc import Iterable

import peewee

from floway_core.errors import GatewayError
from floway_core.storage import upstreams
from floway_core.storage.aliases import NO_OVERRIDES, AliasRow, Overrides, all_rows, find, put, remove

__all__ = [
    "NO_OVERRIDES",
    "AliasRow",
    "Overrides",
    "all_rows",
    "find",
    "format_targets",
    "parse_targets",
    "put",
    "remove",
]


def parse_targets(database: peewee.Database, texts: Iterable[str]) -> list[tuple[str, str | None]]:
    """Parse texts of the form ``MODEL[@UPSTREAM]``, for ``put``.

    Both names may contain an @, so the existing upstreams decide. An @ at the end belongs to no name.

    :returns: for each the model, and the name of the upstream or None.
    :raises GatewayError: 400, there is no such upstream.
    """
    names = {row.name for row in upstreams.all_rows(database)}
    return [_parse_target(text, names) for text in texts]


def _parse_target(text: str, upstream_names: set[str]) -> tuple[str, str | None]:
    parts = text.split("@")
    if not parts[-1]:
        return "@".join(parts[:-1]), None
    for count in range(1, len(parts)):
        upstream = "@".join(parts[count:])
        if upstream in upstream_names:
            return "@".join(parts[:count]), upstream
    if len(parts) > 1:
        raise GatewayError(400, f"There is no upstream named {text.partition('@')[2]!r}.", param="targets")
    return text, None


def format_targets(row: AliasRow) -> list[str]:
    """Return the targets of an alias as ``parse_targets`` accepts them."""
    texts = []
    for target in row.targets:
        model, upstream = target["model"] or "", target["upstream"]
        texts.append(f"{model}@{upstream}" if upstream else model + "@" * ("@" in model))
    return texts
