"""A long list of items that parses each of them when it is first read: most turns read none but the last ones."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

from floway_core.protocol import jsontext


class LazyItems(Sequence[dict[str, Any]]):
    """Items, some of them as JSON texts that nobody has read yet. Do not change the items."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Sequence[bytes | dict[str, Any]]) -> None:
        """:param entries: items, and texts of items that ``jsontext.loads`` has accepted before."""
        self._entries = list(entries)

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
            (entry,) = jsontext.loads_many([entry])
            self._entries[index] = entry
        return entry

    def __iter__(self) -> Iterator[dict[str, Any]]:
        texts = {index: entry for index, entry in enumerate(self._entries) if isinstance(entry, bytes)}
        for index, item in zip(texts, jsontext.loads_many(list(texts.values())), strict=True):
            self._entries[index] = item
        return iter(self._entries)  # type: ignore[arg-type]  # they are all parsed now

    def __add__(self, added: Sequence[dict[str, Any]]) -> "LazyItems":
        return LazyItems([*self._entries, *(added._entries if isinstance(added, LazyItems) else added)])

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]
