"""Strategies of hypothesis for tests that put odd parts into requests and events."""

import copy
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

TIMES = int(os.environ.get("FLOWAY_TEST_FUZZ") or 1)
"""How many times as much as in the suite is tried; see ``make fuzz``."""

DROP = object()
"""In place of a value: the place is removed."""

Path = tuple[str | int, ...]
"""Names and indices that lead to a part of a JSON value."""

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A picture of one pixel, in base64."""


def examples(count: int) -> Any:
    """Return the settings of a test that tries so many examples in the suite, always the same ones."""
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def odd_values(*more: Any) -> st.SearchStrategy[Any]:
    """Return JSON values that stand where others are expected.

    :param more: values that the API under test takes for something, such as a role or the type of a block.
    """
    simple: tuple[Any, ...] = (
        None,
        True,
        0,
        -1,
        1.5,
        2**70,
        1e300,
        "",
        "x",
        "text",
        "\ud83d",
        "\x00",
        [],
        {},
        [[]],
        [None],
    )
    return st.sampled_from([*simple, *more]) | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=5,
    )


def paths(value: Any) -> list[Path]:
    """Return the paths of all parts of a JSON value, without the whole of it."""
    return [path for path in _paths(value, ()) if path]


def _paths(value: Any, path: Path) -> Iterator[Path]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield from _paths(part, (*path, name))


def replaced(value: Any, path: Path, new: Any) -> Any:
    """Return a copy of a JSON value with ``new`` at ``path``. ``DROP`` removes a field; an element becomes None.

    :raises LookupError: there is no such path.
    :raises TypeError: the same.
    """
    value = copy.deepcopy(value)
    parent = value
    for name in path[:-1]:
        parent = parent[name]
    if new is DROP and isinstance(parent, dict):
        del parent[path[-1]]
    else:
        parent[path[-1]] = None if new is DROP else new
    return value


def changed(value: Any, odd: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[Any]:
    """Return copies of a JSON value of which some parts are odd or missing.

    :param most: the number of changes.
    """
    change = st.tuples(st.sampled_from(paths(value)), odd | st.just(DROP))
    return st.lists(change, min_size=1, max_size=most).map(lambda changes: _apply(value, changes))


def _apply(value: Any, changes: Sequence[tuple[Path, Any]]) -> Any:
    for path, new in changes:
        try:
            value = replaced(value, path, new)
        except (LookupError, TypeError):  # an earlier change has removed the place
            continue
    return value


def one_changed(values: Sequence[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return copies of ``values``, each with one odd part. The ``type`` of an event stays: the stream needs it."""
    places = [(value, path) for value in values for path in paths(value) if path != ("type",)]
    return st.builds(lambda place, new: replaced(place[0], place[1], new), st.sampled_from(places), odd)


def encode_event(content: dict[str, Any]) -> bytes:
    """Encode an event with any content, such as half a surrogate pair, which no JSON text can hold in UTF-8."""
    return f"event: {content['type']}\ndata: {json.dumps(content)}\n\n".encode()


def full_responses_request(**fields: Any) -> dict[str, Any]:
    """Return a request of the Responses API with items, tools and options of all kinds, without a model.

    :param fields: further fields, or others than these.
    """
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}
    file = {"type": "input_file", "file_data": "JVBERg==", "filename": "a.pdf"}
    search = {"type": "search", "query": "q", "sources": [{"type": "url", "url": "https://a.example/"}]}
    return {
        "instructions": "Be brief.",
        "input": [
            {"role": "developer", "content": "x"},
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}, image, file]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "d", "name": "patch", "input": "x"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "1"}]},
            {"type": "custom_tool_call_output", "call_id": "d", "output": "2"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": search},
        ],
        "tools": [
            {"type": "function", "name": "f", "parameters": {"type": "object"}},
            {"type": "custom", "name": "patch"},
            {"type": "web_search", "user_location": {"city": "U"}},
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "schema": {}}, "verbosity": "low"},
        "max_output_tokens": 2000,
        "temperature": 1,
        **fields,
    }
