"""The form that the CLI gives to bodies and items, for requests of other clients."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floway_codex.identity import uuids
from floway_codex.wire.input_state import InputState
from floway_codex.wire.items import INSTRUCTIONS, item_kind, part_kind
from floway_codex.wire.profile import Profile
from floway_codex.wire.templates import Fields, order_fields

LEFT_OUT = frozenset({"annotations", "id", "logprobs", "status"})
"""Keys of items and parts that are removed unless the profile has them. Other unknown keys stay."""
MAX_SHAPES = 500
"""Shapes that are cached for a profile."""
HEX_BYTES = 25
"""Bytes in the backend's own item ids."""


def add_defaults(body: Mapping[str, Any], defaults: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    """Add the fields that the CLI always sends.

    :param defaults: the rendered ``profile.body``.
    """
    result = dict(defaults)
    inner_values = [(name, key, result.pop(path)) for path, name, key in profile.inner_paths if path in defaults]
    result.update(body)
    for name, inner, value in inner_values:
        if name not in result or isinstance(result[name], dict):
            result[name] = {inner: value, **result.get(name, {})}
    for name, order in profile.inner_keys.items():
        if isinstance(given := result.get(name), dict):
            result[name] = order_fields(given, order)
    return result


# ------------------------------------------------------------------------------------------------------------- items
@dataclass(frozen=True)
class _Shape:
    """What to do with items of one kind that have the same keys in the same order."""

    template: Mapping[str, Any] | None
    """The keys in the CLI's order, with the values of those that are added; None if nothing changes."""
    left_out: Sequence[str]
    """The item's keys that are removed."""
    ids: Sequence[tuple[str, str]]
    """Added keys whose values differ between items, and the templates of these."""
    has_content: bool
    """Whether the items have the key ``content``."""


UNCHANGED = _Shape(None, (), (), has_content=False)
"""For items of a kind that the profile does not have."""


def shape_items(items: Sequence[Any], profile: Profile, thread: str, lite: bool, state: InputState) -> list[Any]:
    """Give items the keys of the CLI in its order, and ids where it sends ids.

    :param state: of the items before; it is updated.

    A missing id is derived from the thread and the position of the item, so that it is the same whenever the item is
    sent again in this conversation.
    """
    seeks_instructions = (not profile.names_instructions or lite) and INSTRUCTIONS in profile.items
    seeks_instructions = seeks_instructions and not state.has_instructions
    shaped = []
    for position, item in enumerate(items, state.count):
        if isinstance(item, dict):
            kind = item_kind(item)
            if seeks_instructions and kind == "message developer":
                seeks_instructions, state.has_instructions = False, True
                kind = INSTRUCTIONS if position <= 1 else kind
            shape = _shape_of(item, kind, profile, lite)
            if shape.template is not None:
                item = _apply(shape, shape.template, item, thread, position)
            if shape.has_content and item.get("type") == "message" and isinstance(item["content"], list):
                item = _with_shaped_parts(item, item["content"], profile, lite)
        shaped.append(item)
    state.count += len(items)
    return shaped


def _with_shaped_parts(message: dict[str, Any], parts: list[Any], profile: Profile, lite: bool) -> dict[str, Any]:
    changed = {}
    for index, part in enumerate(parts):
        if isinstance(part, dict):
            shape = _shape_of(part, part_kind(part), profile, lite)
            if shape.template is not None:
                changed[index] = _apply(shape, shape.template, part, "", 0)
    if not changed:
        return message
    return {**message, "content": [changed.get(index, part) for index, part in enumerate(parts)]}


def _shape_of(item: Mapping[str, Any], kind: str, profile: Profile, lite: bool) -> _Shape:
    key, cached = (kind, lite, *item), profile.shapes
    shape: _Shape | None = cached.get(key)
    if shape is None:
        if len(cached) >= MAX_SHAPES:  # clients may send any keys
            cached.clear()
        form = profile.items.get(kind)
        shape = cached[key] = _make_shape(form, tuple(item), lite) if form else UNCHANGED
    return shape


def _make_shape(form: Fields, keys: tuple[str, ...], lite: bool) -> _Shape:
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
    return _Shape(
        template=None if unique == keys else {name: added.get(name) for name in unique},
        left_out=[name for name in keys if name in left_out],
        ids=[(name, value) for name, value in added.items() if isinstance(value, str) and "{" in value],
        has_content="content" in keys,
    )


def _apply(
    shape: _Shape, template: Mapping[str, Any], item: Mapping[str, Any], thread: str, position: int
) -> dict[str, Any]:
    made = {**template, **item}  # in the order of the template, with the values of the item
    for name in shape.left_out:
        del made[name]
    for name, text in shape.ids:
        made[name] = _fill(text, thread, position)
    return made


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
