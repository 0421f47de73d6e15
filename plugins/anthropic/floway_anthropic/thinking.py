"""Store reasoning in the ``signature`` of thinking blocks, so that the client sends it back.

A reasoning item becomes a thinking block with the text of its summary, or a redacted block if there is no text. Its
signature contains the id and the encrypted content, which the upstream needs to read the item again. Signatures that
are damaged or not from Floway are dropped.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from floway_core.protocol import signatures

KIND = "reasoning"
"""The kind of the signatures."""

SEPARATOR = "\n\n"
"""Separates the parts of a summary."""

_TEXT_TYPES = {"summary": "summary_text", "content": "reasoning_text"}
"""By list of parts in a reasoning item: the type of its parts."""


def thinking_text(item: dict[str, Any]) -> str:
    """Return the text that a reasoning item shows: its summary, or its content if there is no summary."""
    return SEPARATOR.join(_read_parts(item)[1])


def to_block(item: dict[str, Any], *, shows_text: bool = True) -> dict[str, Any]:
    """Convert a reasoning item to a block.

    :param shows_text: whether the client wants to see the text. If not, the block is an empty thinking block, as with
        ``display: omitted`` of the Messages API.
    """
    text, signature = thinking_text(item), encode_signature(item)
    if text and shows_text:
        return {"type": "thinking", "thinking": text, "signature": signature}
    if not shows_text:
        return {"type": "thinking", "thinking": "", "signature": signature}
    return {"type": "redacted_thinking", "data": signature}


def is_hidden(block: dict[str, Any]) -> bool:
    """Return whether a block is thinking without text. An answer does not end with one: some clients, such as Claude
    Code, take the last block for its text. The Messages API itself puts no thinking there."""
    return block["type"] == "redacted_thinking" or (block["type"] == "thinking" and not block["thinking"])


def to_item(block: dict[str, Any]) -> dict[str, Any] | None:
    """Convert a thinking block of a client back to its reasoning item.

    :returns: None if the block does not come from Floway, or is damaged.
    """
    signature = block.get("signature") if block.get("type") == "thinking" else block.get("data")
    text = block.get("thinking")
    return decode_signature(signature, text if isinstance(text, str) else "")


def encode_signature(item: dict[str, Any]) -> str:
    """Return the signature for a reasoning item. Equal items have equal signatures."""
    field, texts = _read_parts(item)
    lengths = [len(text) for text in texts]
    return signatures.encode(KIND, [item.get("id"), item.get("encrypted_content"), field, lengths])


def decode_signature(signature: Any, text: str) -> dict[str, Any] | None:
    """Return the reasoning item of a signature.

    :param text: the text of the thinking block. If it is empty or has been changed, the item gets no text. The
        encrypted content still contains the reasoning.
    :returns: None if the signature does not come from Floway, or is damaged.
    """
    try:
        item_id, encrypted, field, lengths = signatures.decode(KIND, signature)
        texts = _split(text, lengths)
    except (TypeError, ValueError):
        return None
    item: dict[str, Any] = {"type": "reasoning"}
    if isinstance(item_id, str):
        item["id"] = item_id
    item["summary"] = []
    if field in _TEXT_TYPES and texts:
        item[field] = [{"type": _TEXT_TYPES[field], "text": part} for part in texts]
    if isinstance(encrypted, str):
        item["encrypted_content"] = encrypted
    return item


def _read_parts(item: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the list of parts that holds the text of a reasoning item, and their texts."""
    for field in _TEXT_TYPES:
        parts = item.get(field)
        texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        if texts := [text for text in texts if isinstance(text, str)]:
            return field, texts
    return "summary", []


def _split(text: str, lengths: Sequence[int]) -> list[str]:
    """Split the text of a thinking block into the parts of the summary."""
    if not text or not lengths or sum(lengths) + len(SEPARATOR) * (len(lengths) - 1) != len(text):
        return []
    starts = accumulate((length + len(SEPARATOR) for length in lengths), initial=0)
    return [text[start : end - len(SEPARATOR)] for start, end in pairwise(starts)]
