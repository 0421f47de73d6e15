"""A long list of items that parses each of them when it is first read: most turns read none but the last ones."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import orjson

from floway_core.protocol import jsontext


class LazyItems(Sequence[dict[str, Any]]):
    """Items, some of them as JSON texts that nobody has read yet. Do not change the items."""

    __slots__ = ("_entries", "_unread")

    def __init__(self, entries: Sequence[bytes | dict[str, Any]], unread: int = 0) -> None:
        """:param entries: items, and texts of items that ``jsontext.loads`` has accepted before.
        :param unread: how many of the first entries are texts, as far as it is known.
        """
        self._entries = list(entries)
        self._unread = unread

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> "LazyItems": ...
    def __getitem__(self, index: int | slice) -> "dict[str, Any] | LazyItems":
        if isinstance(index, slice):
            return LazyItems(self._entries[index])
        entry = self._entries[index]
        if isinstance(entry, bytes):
            self._unread = 0
            (entry,) = jsontext.loads_many([entry])
            self._entries[index] = entry
        return entry

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._unread = 0
        texts = {index: entry for index, entry in enumerate(self._entries) if isinstance(entry, bytes)}
        for index, item in zip(texts, jsontext.loads_many(list(texts.values())), strict=True):
            self._entries[index] = item
        return iter(self._entries)  # type: ignore[arg-type]  # they are all parsed now

    def as_fragments(self) -> list[orjson.Fragment | dict[str, Any]]:
        """Return the items for ``orjson.dumps``, which writes those that nobody has read as they are."""
        others = self._entries[self._unread :]
        fragments: list[orjson.Fragment | dict[str, Any]] = [*map(orjson.Fragment, self._entries[: self._unread])]
        fragments += [orjson.Fragment(entry) if isinstance(entry, bytes) else entry for entry in others]
        return fragments

    def __add__(self, added: Sequence[dict[str, Any]]) -> "LazyItems":
        entries = [*self._entries, *(added._entries if isinstance(added, LazyItems) else added)]
        return LazyItems(entries, self._unread)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


def dumps_body(body: dict[str, Any]) -> bytes:
    """Serialise the body of a request. Its ``input`` may be ``LazyItems``.

    :raises ValueError: as ``jsontext.dumps``.
    """
    items = body.get("input")
    if not isinstance(items, LazyItems):
        return jsontext.dumps(body)
    try:
        return orjson.dumps({**body, "input": items.as_fragments()})
    except TypeError:  # only the standard library can write the other items
        return jsontext.dumps({**body, "input": list(items)})
