"""The form that the CLI gives to bodies and items, for requests of other clients."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from floway_codex.identity import uuids
from floway_codex.wire.items import INSTRUCTIONS, item_kind
from floway_codex.wire.profile import Profile
from floway_codex.wire.templates import Fields

LEFT_OUT = frozenset({"id", "status"})
"""Keys of items that are left out where the CLI has none of this name. Other unknown keys stay."""
HEX_BYTES = 25
"""Bytes in the backend's own item ids."""


def add_defaults(body: Mapping[str, Any], defaults: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    """Add the fields that the CLI always sends.

    :param defaults: the rendered ``profile.body``.
    """
    result = dict(body)
    for path, value in defaults.items():
        name, _, inner = path.partition(".")
        if not inner:
            result.setdefault(name, value)
        elif name not in result or isinstance(result[name], dict):
            result[name] = {inner: value, **result.get(name, {})}
    for name, order in profile.inner_keys.items():
        if isinstance(result.get(name), dict):
            given = result[name]
            result[name] = {**{key: given[key] for key in order if key in given}, **given}
    return result


# ------------------------------------------------------------------------------------------------------------- items
def shape_items(items: Sequence[Any], profile: Profile, thread: str, lite: bool) -> list[Any]:
    """Give items the CLI's keys in its order, and ids where it has some.

    An id that is missing is derived from the thread and the place of the item, so that it is the same whenever the item
    is sent again in this conversation.
    """
    condition = "true" if lite else None
    seeks_instructions = not profile.names_instructions or lite
    shaped = []
    for place, item in enumerate(items):
        if not isinstance(item, dict):
            shaped.append(item)
            continue
        kind = item_kind(item)
        if seeks_instructions and kind == "message developer":
            seeks_instructions = False
            kind = INSTRUCTIONS if INSTRUCTIONS in profile.items and place <= 1 else kind
        form = profile.items.get(kind)
        shaped.append(_shape_item(item, form, thread, place, condition) if form else item)
    return shaped


def _shape_item(item: Mapping[str, Any], form: Fields, thread: str, place: int, lite: str | None) -> dict[str, Any]:
    names = form.names
    shaped = {name: item[name] for name in names if name in item}
    for name, value in item.items():
        if name not in shaped and name not in LEFT_OUT:
            shaped[name] = value
    missing = [name for name in names if name in LEFT_OUT and name not in shaped]
    if not missing or "encrypted_content" in item:  # its id belongs to its content
        return shaped
    rendered = form.render({"lite": lite, **_id_parts(thread, place)})
    shaped |= {name: rendered[name] for name in missing if name in rendered}
    return {**{name: shaped[name] for name in names if name in shaped}, **shaped}


def _id_parts(thread: str, place: int) -> dict[str, str]:
    digits = hashlib.blake2b(f"{thread} {place}".encode(), digest_size=HEX_BYTES).hexdigest()
    started = _started_at(thread)
    return {
        "uuid4": uuids.format_uuid(digits, 4),
        "uuid5": uuids.format_uuid(digits, 5),
        "uuid7": uuids.format_uuid(f"{started + place:012x}{digits}", 7),
        "hex": digits,
    }


@functools.lru_cache(maxsize=4096)
def _started_at(thread: str) -> int:
    """When a thread began, Unix time in milliseconds, by its id."""
    return uuids.read_time(thread) or uuids.derive_time(hashlib.sha256(thread.encode()).hexdigest())
