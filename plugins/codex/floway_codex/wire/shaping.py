"""The form that the CLI gives to bodies and items, for requests of other clients."""

from collections.abc import Mapping, Sequence
from typing import Any

from floway_codex.wire.input_state import InputState
from floway_codex.wire.items import INSTRUCTIONS, item_kind, part_kind
from floway_codex.wire.profile import Profile
from floway_codex.wire.shapes import Shapes
from floway_codex.wire.templates import order_fields


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


def shape_items(items: Sequence[Any], profile: Profile, thread: str, lite: bool, state: InputState) -> list[Any]:
    """Give items the keys of the CLI in its order, and ids where it sends ids.

    :param state: of the items before; it is updated.

    A missing id is derived from the thread and the position of the item, so that it is the same whenever the item is
    sent again in this conversation.
    """
    seeks_instructions = (not profile.names_instructions or lite) and INSTRUCTIONS in profile.items
    seeks_instructions = seeks_instructions and not state.has_instructions
    shapes, shaped = profile.shapes, []
    for position, item in enumerate(items, state.count):
        if isinstance(item, dict):
            kind = item_kind(item)
            if seeks_instructions and kind == "message developer":
                seeks_instructions, state.has_instructions = False, True
                kind = INSTRUCTIONS if position <= 1 else kind
            shape = shapes[kind, lite, *item]
            item = shape.apply(item, thread, position)
            if shape.has_content and item.get("type") == "message" and isinstance(item["content"], list):
                item = _with_shaped_parts(item, item["content"], shapes, lite)
        shaped.append(item)
    state.count += len(items)
    return shaped


def _with_shaped_parts(message: dict[str, Any], parts: list[Any], shapes: Shapes, lite: bool) -> dict[str, Any]:
    changed = {}
    for index, part in enumerate(parts):
        if isinstance(part, dict):
            shape = shapes[part_kind(part), lite, *part]
            if shape.template is not None:
                changed[index] = shape.apply(part, "", 0)
    if not changed:
        return message
    return {**message, "content": [changed.get(index, part) for index, part in enumerate(parts)]}
