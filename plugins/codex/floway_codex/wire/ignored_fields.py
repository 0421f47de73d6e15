"""Which fields of a client's request the backend does not get: the client is to know that they have no effect."""

from collections.abc import Iterator, Mapping
from typing import Any

INERT: dict[str, tuple[Any, ...]] = {
    "prompt_cache_options": ({},),
    "service_tier": ("auto", "default"),
    "stream_options": ({},),
    "truncation": ("disabled",),
}
"""Values that ask for what the backend does anyway."""

MOVED = frozenset({"instructions", "tools"})
"""Fields that the form of responses-lite has as items of the input."""


def ignored_fields(sent: Mapping[str, Any], made: Mapping[str, Any], *, lite_form: bool) -> list[str]:
    """The fields that the client has sent and the backend does not get, as ``ResponsesRequestContext.ignore`` names
    them.

    :param sent: the client's body.
    :param made: the body for the backend.
    :param lite_form: whether ``made`` was put into the form of responses-lite.
    """
    moved = MOVED if lite_form else frozenset()
    left_out = [
        name
        for name, value in sent.items()
        if name not in made and name not in moved and value is not None and value is not False
        if value not in INERT.get(name, ())
    ]
    return [*left_out, *_dropped_tools(sent, made), *_changed(sent, made)]


def _dropped_tools(sent: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(sent.get("tools"), list):
        kept = {_key(tool) for tool in _tools(made)}
        yield from (f"tools[{place}]" for place, tool in enumerate(sent["tools"]) if _key(tool) not in kept)


def _key(tool: Any) -> tuple[str, str]:
    """What tells a tool from others."""
    return (str(tool.get("type")), str(tool.get("name"))) if isinstance(tool, dict) else ("", "")


def _tools(made: Mapping[str, Any]) -> list[Any]:
    """The tools of a request, wherever it has them."""
    items = made.get("input")
    leading = items[0] if isinstance(items, list) and items else None
    moved = leading.get("tools") if isinstance(leading, dict) and leading.get("type") == "additional_tools" else None
    return made.get("tools") or moved or []


def _changed(sent: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    """Fields that have another value than the client's."""
    for name in ("parallel_tool_calls", "tool_choice"):
        if sent.get(name) is not None and name in made and made[name] != sent[name]:
            yield name
    theirs, ours = sent.get("reasoning"), made.get("reasoning")
    if isinstance(theirs, dict) and isinstance(ours, dict):
        yield from (
            f"reasoning.{name}" for name, value in theirs.items() if value is not None and ours.get(name) != value
        )
