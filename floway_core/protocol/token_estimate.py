"""Estimate the input tokens of a request, for upstreams that cannot count them."""

from collections.abc import Mapping
from typing import Any

from floway_core.protocol import jsontext

BYTES_PER_TOKEN = 4
"""Bytes of UTF-8 in a token: about right for English text and code with the usual tokenizers."""

TOKENS_PER_FILE = 1000
"""For an image, a sound or another file that is part of the request or named by its URL."""

TOKENS_PER_ITEM = 4
"""For the special tokens between items."""

COUNTED_FIELDS = ("instructions", "input", "tools", "text")
"""The fields of a request that the model reads."""

_FILE_FIELDS = ("image_url", "file_data", "file_url", "file_id", "data")


def estimate_tokens(body: Mapping[str, Any]) -> int:
    """Estimate the input tokens of a request body of the Responses API: a quarter of its bytes, ``TOKENS_PER_FILE`` for
    each file, and ``TOKENS_PER_ITEM`` for each item."""
    items = body.get("input")
    size, files = 0, 0
    for name in COUNTED_FIELDS:
        if isinstance(value := body.get(name), str):
            size += len(value.encode("utf-8", "replace"))
        elif value:
            count = _count_files(value)
            files += count
            size += len(jsontext.dumps(_without_files(value) if count else value))
    item_count = len(items) if isinstance(items, list) else 1
    return -(-size // BYTES_PER_TOKEN) + files * TOKENS_PER_FILE + item_count * TOKENS_PER_ITEM


def _is_file(name: str, value: Any) -> bool:
    return name in _FILE_FIELDS and isinstance(value, str)


def _count_files(value: Any) -> int:
    if isinstance(value, dict):
        return sum(1 if _is_file(name, child) else _count_files(child) for name, child in value.items())
    return sum(map(_count_files, value)) if isinstance(value, list) else 0


def _without_files(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_files(child) for name, child in value.items() if not _is_file(name, child)}
    return [_without_files(child) for child in value] if isinstance(value, list) else value
