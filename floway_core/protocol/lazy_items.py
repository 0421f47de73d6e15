"""A long list of items that parses each of them when it is first read: most turns read none but the last ones."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

from floway_core.protocol import jsontext


class LazyItems(Sequence[dict[str, Any]]):
    """Items, some of them as JSON texts that nobody has read yet. Do not change the items."""

    __slots__ = ("_slots",)

    def __init__(self, slots: Sequence[bytes | dict[str, Any]]) -> None:
        """:param slots: items, and texts of items that ``jsontext.loads`` has accepted before."""
        self._slots = list(slots)

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> "LazyItems": ...
    def __getitem__(self, index: int | slice) -> "dict[str, Any] | LazyItems":
        if isinstance(index, slice):
            return LazyItems(self._slots[index])
        slot = self._slots[index]
        if isinstance(slot, bytes):
            (slot,) = jsontext.loads_many([slot])
            self._slots[index] = slot
        return slot

    def __iter__(self) -> Iterator[dict[str, Any]]:
        texts = {place: slot for place, slot in enumerate(self._slots) if isinstance(slot, bytes)}
        for place, item in zip(texts, jsontext.loads_many(list(texts.values())), strict=True):
            self._slots[place] = item
        return iter(self._slots)  # type: ignore[arg-type]  # they are all parsed now

    def __add__(self, added: Sequence[dict[str, Any]]) -> "LazyItems":
        return LazyItems([*self._slots, *(added._slots if isinstance(added, LazyItems) else added)])

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]
