"""Shortcuts for frequent events: append a delta without a search for its item, replace an id without encoding."""

import contextlib
import functools
import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from floway_core.protocol.text_events import TextLocation

MANY_EVENTS = 4
"""From this number on it takes less time to treat them at once."""


class ResponseIdChange(NamedTuple):
    """Replaces only the id of the response in an event, which is faster than encoding the event again."""

    old_id: bytes
    new_id: bytes

    def apply(self, event: bytes) -> bytes | None:
        """Return the event with the new id; None if the old one occurs more than once, perhaps in a text."""
        return event.replace(self.old_id, self.new_id) if event.count(self.old_id) == 1 else None


def append_delta(text: bytearray, delta: object) -> None:
    """Append a delta to a text in UTF-8, unless it is no text."""
    if isinstance(delta, str):
        try:
            text += delta.encode()
        except UnicodeEncodeError:  # half of a surrogate pair; the next delta starts with the other half
            text += delta.encode("utf-8", "surrogatepass")


class DeltaTarget:
    """The text of the last delta. Most deltas belong to the same text as the previous one."""

    __slots__ = ("_address", "_address_of", "_is_same_address", "_text", "sequence_number")

    def __init__(self, event: Mapping[str, Any], fields: Sequence[str], text: bytearray) -> None:
        """:param event: a delta of the text.
        :param fields: its fields that say to which text it belongs; it has all of them.
        """
        self._address_of = operator.itemgetter(*fields)
        self._address = self._address_of(event)
        self._is_same_address = functools.partial(operator.eq, self._address)
        self._text = text
        self.sequence_number = -1
        """That of the last delta."""

    @classmethod
    def find(cls, event: Mapping[str, Any], location: TextLocation, text: bytearray) -> "DeltaTarget | None":
        """Return the target of the deltas after ``event``; None if it does not say to which text it belongs."""
        fields = location.address
        return cls(event, fields, text) if all(name in event for name in fields) else None

    def append_run(self, events: Sequence[Mapping[str, Any] | None], start: int) -> int:
        """Append the deltas of the events from ``start`` on, as far as they belong to this text.

        :returns: the position after the last of them.
        """
        if len(events) - start >= MANY_EVENTS:
            start = self._append_many(events, start)
        address, address_of, text = self._address, self._address_of, self._text
        for position in range(start, len(events)):
            event = events[position]
            try:
                if event is None or address_of(event) != address:
                    return position
            except KeyError:
                return position
            append_delta(text, event.get("delta"))
            if isinstance(number := event.get("sequence_number"), int):
                self.sequence_number = number
        return len(events)

    def _append_many(self, events: Sequence[Mapping[str, Any] | None], start: int) -> int:
        """Append the deltas of the events from ``start`` on that belong to this text, all of them at once.

        It only looks at these events and the next one: many texts may alternate in a block.

        :returns: the position after the last of them; ``start`` if one of them is unusual.
        """
        addresses: list[object] = []
        following: Iterator[Any] = map(events.__getitem__, range(start, len(events)))
        with contextlib.suppress(KeyError, TypeError):  # an event of another kind; the list has those before it
            addresses.extend(itertools.takewhile(self._is_same_address, map(self._address_of, following)))
        run: list[Any] = list(events[start : start + len(addresses)])
        try:
            deltas = "".join(map(_get_delta, run)).encode()
            number = run[-1].get("sequence_number")
        except (IndexError, KeyError, TypeError, UnicodeEncodeError):
            return start
        if isinstance(number, int):
            self._text += deltas
            self.sequence_number = number
            return start + len(run)
        return start


_get_delta = operator.itemgetter("delta")


def append_run(target: DeltaTarget | None, events: Sequence[Mapping[str, Any] | None], start: int) -> int:
    """Call ``DeltaTarget.append_run``, if there is a target."""
    return target.append_run(events, start) if target else start
