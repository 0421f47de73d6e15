"""Which fields of a client's request do not reach the backend, so that the response can name them."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

INERT_VALUES: dict[str, tuple[Any, ...]] = {
    "prompt_cache_options": ({},),
    "service_tier": ("auto", "default"),
    "stream_options": ({},),
    "truncation": ("disabled",),
}
"""Values that ask for the default behaviour of the backend, so dropping them has no effect."""


def find_ignored_fields(
    client_body: Mapping[str, Any], backend_body: Mapping[str, Any], *, moved: Collection[str]
) -> list[str]:
    """The fields that the client has sent and the backend does not get, as ``ResponsesRequestContext.ignore`` names
    them.

    :param client_body: the client's body.
    :param backend_body: the body for the backend.
    :param moved: fields that are input items in ``backend_body``.
    """
    missing = client_body.keys() - backend_body.keys() - set(moved)
    left_out = [name for name in filter(missing.__contains__, client_body) if _has_effect(name, client_body[name])]
    return [*left_out, *_dropped_tools(client_body, backend_body), *_overridden_fields(client_body, backend_body)]


def _has_effect(name: str, value: Any) -> bool:
    """Whether a field asks for anything but the default behaviour of the backend."""
    return value is not None and value is not False and value not in INERT_VALUES.get(name, ())


def _dropped_tools(client_body: Mapping[str, Any], backend_body: Mapping[str, Any]) -> Iterator[str]:
    client_tools, backend_tools = client_body.get("tools"), _tools(backend_body)
    if isinstance(client_tools, list) and client_tools != backend_tools:
        remaining = {_tool_key(tool) for tool in backend_tools}
        yield from (f"tools[{index}]" for index, tool in enumerate(client_tools) if _tool_key(tool) not in remaining)


def _tool_key(tool: Any) -> tuple[str, str]:
    """The type and the name of a tool, which identify it."""
    return (str(tool.get("type")), str(tool.get("name"))) if isinstance(tool, dict) else ("", "")


def _tools(backend_body: Mapping[str, Any]) -> list[Any]:
    """The tools of a request in either form."""
    items = backend_body.get("input")
    leading = items[0] if isinstance(items, list) and items else None
    moved = leading.get("tools") if isinstance(leading, dict) and leading.get("type") == "additional_tools" else None
    return backend_body.get("tools") or moved or []


def _overridden_fields(client_body: Mapping[str, Any], backend_body: Mapping[str, Any]) -> Iterator[str]:
    """Fields whose value differs from the client's."""
    for name in ("parallel_tool_calls", "tool_choice"):
        if client_body.get(name) is not None and name in backend_body and backend_body[name] != client_body[name]:
            yield name
    client_reasoning, backend_reasoning = client_body.get("reasoning"), backend_body.get("reasoning")
    if isinstance(client_reasoning, dict) and isinstance(backend_reasoning, dict):
        yield from (
            f"reasoning.{name}"
            for name, value in client_reasoning.items()
            if value is not None and backend_reasoning.get(name) != value
        )
