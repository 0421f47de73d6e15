"""Store reasoning in the ``thoughtSignature`` of parts, so that the client sends it back.

Many clients drop the parts with thoughts and keep the others. So the signature of the next other part contains the
complete reasoning items. Signatures that are damaged or not from Floway are dropped.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from floway_core.protocol import signatures

Item = dict[str, Any]

KIND = "reasoning"
"""The kind of signatures with reasoning items."""
PART = "part"
"""The kind of encrypted contents with the signature of an upstream with this API."""

MARK = base64.b64encode(signatures.MARK.encode()).rstrip(b"=")
"""The start of every signature. Its text has a multiple of three characters, so that its base64 is always the same."""
assert len(signatures.MARK) % 3 == 0

_FIELDS = ("id", "summary", "content", "encrypted_content")
_STANDARD = str.maketrans("-_", "+/")


def encode_items(items: Sequence[Mapping[str, Any]]) -> str:
    """Return the signature for reasoning items. Equal items have equal signatures.

    Clients decode it and encode it again, so it is base64.
    """
    reasoning = [{name: item[name] for name in _FIELDS if item.get(name)} for item in items]
    return base64.b64encode(signatures.encode(KIND, reasoning).encode()).decode()


def decode_items(signature: Any) -> list[Item]:
    """Return the reasoning items of a signature; none if it does not come from Floway, or is damaged."""
    reasoning = signatures.decode(KIND, _decode_base64(signature))
    if not isinstance(reasoning, list) or not all(isinstance(item, dict) for item in reasoning):
        return []
    fields = ({name: item[name] for name in _FIELDS if name in item} for item in reasoning)
    return [{"type": "reasoning", "summary": [], **item} for item in fields]


def is_own(signature: Any) -> bool:
    """Return whether a signature looks like one of ``encode_items``."""
    return isinstance(signature, str) and signature.encode("utf-8", "replace").startswith(MARK)


def _decode_base64(value: Any) -> str | None:
    """Return the text in base64 of either alphabet, with or without padding; None if it is not base64."""
    if not isinstance(value, str) or not is_own(value):
        return None
    text = value.translate(_STANDARD).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None


# --------------------------------------------------------------------------------- signatures of upstreams of this API
def encode_part_signature(signature: str, *, is_call: bool) -> str:
    """Return the ``encrypted_content`` for a reasoning item with an upstream's signature.

    :param is_call: whether the signature belongs to a function call, which must get it again.
    """
    return signatures.encode(PART, [signature, is_call])


def decode_part_signature(encrypted: Any) -> tuple[str, bool] | None:
    """Return the upstream's signature and whether it belongs to a call; None if it is from another kind of upstream."""
    values = signatures.decode(PART, encrypted)
    if not isinstance(values, list) or len(values) != 2 or not isinstance(values[0], str):
        return None
    return values[0], values[1] is True
