"""Shapes: what the CLI's form of an item changes in all items of one kind with the same keys."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floway_codex.identity import uuids
from floway_codex.wire.templates import Fields

LEFT_OUT = frozenset({"annotations", "id", "logprobs", "status"})
"""Keys of items and parts that are removed unless the profile has them. Other unknown keys stay."""
MAX_SHAPES = 500
"""Shapes that are kept for a profile."""
HEX_BYTES = 25
"""Bytes in the backend's own item ids."""


@dataclass(frozen=True)
class Shape:
    """What to do with items of one kind that have the same keys in the same order."""

    template: Mapping[str, Any] | None
    """The keys in the CLI's order, with the values of those that are added; None if nothing changes."""
    left_out: Sequence[str]
    """The item's keys that are removed."""
    ids: Sequence[tuple[str, str]]
    """Added keys whose values differ between items, and the templates of these."""
    has_content: bool
    """Whether the items have the key ``content``."""

    def apply(self, item: dict[str, Any], thread: str, position: int) -> dict[str, Any]:
        """Return the item in the CLI's form; the same object if nothing changes.

        :param thread: its missing ids are derived from that and the position.
        """
        if self.template is None:
            return item
        shaped = {**self.template, **item}  # in the order of the template, with the values of the item
        for name in self.left_out:
            del shaped[name]
        for name, text in self.ids:
            shaped[name] = _fill(text, thread, position)
        return shaped


UNCHANGED = Shape(None, (), (), has_content=False)
"""For items of a kind that the profile does not have."""


class Shapes(dict[tuple[Any, ...], Shape]):
    """The shapes of a profile's items. They are made when they are first needed.

    The keys are ``(kind, lite, *keys)``: the kind of the items, whether the request is in the responses-lite form, and
    the keys of the items.
    """

    def __init__(self, forms: Mapping[str, Fields]) -> None:
        """:param forms: the items of the profile, by kind."""
        super().__init__()
        self._forms = forms

    def __missing__(self, key: tuple[Any, ...]) -> Shape:
        kind, lite, *keys = key
        form = self._forms.get(kind)
        if len(self) >= MAX_SHAPES:  # clients may send any keys
            self.clear()
        shape = self[key] = _make_shape(form, tuple(keys), lite) if form else UNCHANGED
        return shape


def _make_shape(form: Fields, keys: tuple[str, ...], lite: bool) -> Shape:
    left_out = LEFT_OUT - set(form.names)
    # The id of an item with encrypted content belongs to that content.
    missing = () if "encrypted_content" in keys else tuple(LEFT_OUT - set(keys))
    templates = form.render({"lite": "true" if lite else None, **ID_PARTS})
    added: dict[str, Any] = {name: templates[name] for name in missing if name in templates}
    nulls = (name for name, alternatives in form.templates if any(one.is_null for one in alternatives))
    added |= {name: None for name in nulls if name not in keys}
    present = {*keys, *added} - left_out
    order = (*(name for name in form.names if name in present), *(name for name in keys if name in present))
    unique = tuple(dict.fromkeys(order))
    return Shape(
        template=None if unique == keys else {name: added.get(name) for name in unique},
        left_out=[name for name in keys if name in left_out],
        ids=[(name, value) for name, value in added.items() if isinstance(value, str) and "{" in value],
        has_content="content" in keys,
    )


ID_PARTS = {name: f"{{{name}}}" for name in ("uuid4", "uuid5", "uuid7", "hex")}
"""The placeholders of ids, each as its own value."""


@functools.lru_cache(maxsize=4096)
def _fill(template: str, thread: str, position: int) -> str:
    """``template`` with the part of the id at a position. Clients send the same items in each turn."""
    text, _, part = template.partition("{")
    if not part:
        return text
    digits = hashlib.blake2b(f"{thread} {position}".encode(), digest_size=HEX_BYTES).hexdigest()
    name, _, rest = part.partition("}")
    if name == "hex":
        return f"{text}{digits}{rest}"
    if name == "uuid7":
        digits = f"{_started_at(thread) + position:012x}{digits}"
    return f"{text}{uuids.format_uuid(digits, int(name[-1]))}{rest}"


@functools.lru_cache(maxsize=4096)
def _started_at(thread: str) -> int:
    """When a thread began, Unix time in milliseconds, by its id."""
    return uuids.read_time(thread) or uuids.derive_time(hashlib.sha256(thread.encode()).hexdigest())
