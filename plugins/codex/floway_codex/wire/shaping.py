"""The form that the CLI gives to bodies and items, where a client has not sent them in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from floway_codex.wire.input_state import InputState
from floway_codex.wire.items import INSTRUCTIONS, ITEM_METADATA, item_kind, part_kind
from floway_codex.wire.profile import Profile
from floway_codex.wire.shapes import Shapes
from floway_codex.wire.templates import order_fields
from floway_core.protocol.visible_history import is_client_item


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
        if isinstance(value := result.get(name), dict):
            result[name] = order_fields(value, order)
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


def shape_output_items(items: Sequence[Any], profile: Profile, lite: bool, state: InputState) -> list[Any]:
    """Give the output items in the history of a codex CLI the form in which it sends them again.

    A CLI on a WebSocket only sends what is new, so the gateway has added them as the backend sent them. The CLI (all
    recorded versions) marks such an item with the turn of the item before it, if it marks its own items.

    :param state: of the items before; its ``turn`` is updated.
    """
    shaped = []
    for item in items:
        if isinstance(item, dict):
            if isinstance(metadata := item.get(ITEM_METADATA), dict):
                state.turn = metadata.get("turn_id", state.turn)
            elif not is_client_item(item):
                item = _shape_output_item(item, profile, lite, state.turn)
        shaped.append(item)
    return shaped


def _shape_output_item(item: dict[str, Any], profile: Profile, lite: bool, turn: str | None) -> dict[str, Any]:
    kind = item_kind(item)
    is_message, content = item.get("type") == "message", item.get("content")
    if turn and kind in profile.items and ITEM_METADATA in profile.items[kind].names:
        kinds = {"content_item_kinds": ["unknown"] * len(content)} if is_message and isinstance(content, list) else {}
        item = {**item, ITEM_METADATA: {"turn_id": turn, **kinds}}
    item = profile.shapes[kind, lite, *item].apply(item, "", 0)
    if is_message and isinstance(content, list):
        return _with_shaped_parts(item, content, profile.shapes, lite)
    return item


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
