"""Versions of one output item, as upstreams send them: whether two items are the same, and what both say together."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from floway_core.protocol import jsontext

CALLS = ("function_call", "custom_tool_call")

_WEIGHTLESS = frozenset(
    {"id", "type", "status", "role", "name", "call_id", "annotations", "logprobs", "encrypted_content"}
)
"""Fields that say nothing of how much an item holds: encrypted anew, the same content has another length."""


_PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "message": ("content", {"type": "output_text", "annotations": []}),
    "reasoning": ("summary", {"type": "summary_text"}),
}
_TEXTS = {"function_call": "arguments", "custom_tool_call": "input"}


def in_form(payload: dict[str, Any]) -> dict[str, Any]:
    """``payload`` in the form that clients rely on, the same object where it has it: a message has a role and parts,
    reasoning a summary, and the arguments of a call are a text."""
    kind = str(payload.get("type"))
    changes: dict[str, Any] = {}
    if kind in _PARTS:
        name, form = _PARTS[kind]
        parts = payload.get(name)
        listed: list[Any] = parts if isinstance(parts, list) else [parts]
        if listed is not parts or not all(isinstance(part, dict) for part in listed):
            parts = [{**form, "text": part} if isinstance(part, str) else part for part in listed]
            changes[name] = [part for part in parts if isinstance(part, dict)]
    if kind == "message" and not payload.get("role"):
        changes["role"] = "assistant"
    if kind in _TEXTS and isinstance(value := payload.get(_TEXTS[kind]), dict | list):
        changes[_TEXTS[kind]] = jsontext.dumps(value).decode()
    return {**payload, **changes} if changes else payload


def is_shell(item: Mapping[str, Any]) -> bool:
    """Whether an item is a message without any content."""
    return item.get("type") == "message" and not item.get("content")


def kind_of(payload: Mapping[str, Any]) -> tuple[Any, bool, bool]:
    """What open items are told apart by: the type, and whether there is a call id and an id."""
    return str(payload.get("type")), call_key(payload) is not None, isinstance(payload.get("id"), str)


def call_key(payload: Mapping[str, Any]) -> str | None:
    call_id = payload.get("call_id")
    return call_id if isinstance(call_id, str) and call_id else None


def may_be_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    calls = call_key(one), call_key(other)
    return one.get("type") == other.get("type") and (None in calls or calls[0] == calls[1])


def same_id(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return isinstance(one.get("id"), str) and one["id"] == other.get("id") and may_be_same(one, other)


def same_call(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two calls are one: some upstreams give all calls of an answer the same call id."""
    names = one.get("name"), other.get("name")
    return (
        call_key(one) is not None
        and may_be_same(one, other)
        and (not all(names) or names[0] == names[1])
        and agree(said(one), said(other))
    )


def said(item: Mapping[str, Any]) -> str:
    """All that an item says, as one text; of a call its arguments."""
    texts = [text for name in ("arguments", "input") if isinstance(text := item.get(name), str)]
    for name in ("summary", "content"):
        if isinstance(parts := item.get(name), list):
            texts += [text for part in parts if isinstance(part, dict) and isinstance(text := part.get("text"), str)]
    return "".join(texts).strip()


def agree(one: str, other: str) -> bool:
    """Whether two texts may be versions of the same, one of them unfinished or written in another way."""
    if one.startswith(other) or other.startswith(one) or "{}" in (one, other):
        return True
    try:
        return bool(jsontext.loads(one.encode("utf-8", "replace")) == jsontext.loads(other.encode("utf-8", "replace")))
    except ValueError:
        return False


def _content_key(item: Mapping[str, Any]) -> bytes:
    """Equal for items that say the same, whatever their ids."""
    return jsontext.canonical({name: value for name, value in item.items() if name not in _WEIGHTLESS} | _typed(item))


def _typed(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": item.get("type"), "name": item.get("name")}


def _id_key(item: Mapping[str, Any]) -> str | None:
    return item["id"] if isinstance(item.get("id"), str) else None


RECOGNITION: tuple[tuple[Callable[[Mapping[str, Any]], Any], Callable[..., bool]], ...] = (
    (lambda item: (_id_key(item), _content_key(item)) if _id_key(item) else None, same_id),
    (_id_key, same_id),
    (call_key, same_call),
    (_content_key, may_be_same),
    (lambda item: None if call_key(item) else str(item.get("type")), may_be_same),
    (lambda item: str(item.get("type")), may_be_same),
)
"""What two versions of an item have in common, from the strongest to the weakest."""


def without_repeated(final: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items of a final output, each once."""
    calls: dict[str, dict[str, Any]] = {}
    contents: set[tuple[str, bytes]] = set()
    kept: list[dict[str, Any]] = []
    for payload in final:
        call_id, item_id = call_key(payload), _id_key(payload)
        if call_id and call_id in calls and same_call(calls[call_id], payload):
            continue
        if item_id and (item_id, content := _content_key(payload)) in contents:
            continue
        if call_id:
            calls[call_id] = payload
        if item_id:
            contents.add((item_id, content))
        kept.append(payload)
    return kept


def fuller(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The one of two versions of an item that holds more, the first if both hold the same, with the fields that only
    the other has."""
    if first == second:
        return first
    winner, other = (first, second) if weight(first) >= weight(second) else (second, first)
    item = dict(winner)
    for name, value in other.items():
        if item.get(name) is None and value is not None and name != "status":  # that of an item that has begun
            item[name] = value
    if item.get("status") == "in_progress" and isinstance(other.get("status"), str):
        item["status"] = other["status"]
    return item


def weight(value: Any) -> int:
    """How much a value says, in characters."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        blob = 1 if value.get("encrypted_content") else 0
        return blob + sum(weight(part) for name, part in value.items() if name not in _WEIGHTLESS)
    if isinstance(value, list):
        return sum(map(weight, value))
    return 0
