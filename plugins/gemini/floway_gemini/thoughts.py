"""Reasoning in the ``thoughtSignature`` of parts, so that it survives the way through a client.

Many clients drop the parts with thoughts and keep the others. So the reasoning items of an upstream are carried, whole,
by the first other part that follows them. Signatures of others, and damaged ones, are left out.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from floway_core.protocol import signatures

Item = dict[str, Any]

KIND = "reasoning"
"""The kind of signatures that carry reasoning items of any upstream."""
PART = "part"
"""The kind of encrypted contents that carry the signature of an upstream with this API."""

MARK = base64.b64encode(signatures.MARK.encode()).rstrip(b"=")
"""Begins every signature: its text has a multiple of three characters."""
assert len(signatures.MARK) % 3 == 0

_FIELDS = ("id", "summary", "content", "encrypted_content")
_STANDARD = str.maketrans("-_", "+/")


def encode_items(items: Sequence[Mapping[str, Any]]) -> str:
    """Return the signature for reasoning items. Equal items have equal signatures.

    Clients decode it and encode it again, so it is base64.
    """
    carried = [{name: item[name] for name in _FIELDS if item.get(name)} for item in items]
    return base64.b64encode(signatures.encode(KIND, carried).encode()).decode()


def decode_items(signature: Any) -> list[Item]:
    """Return the reasoning items of a signature; none if it does not come from Floway, or is damaged."""
    carried = signatures.decode(KIND, _decode_base64(signature))
    if not isinstance(carried, list) or not all(isinstance(one, dict) for one in carried):
        return []
    return [
        {"type": "reasoning", "summary": [], **{name: one[name] for name in _FIELDS if name in one}} for one in carried
    ]


def is_own(signature: Any) -> bool:
    """Return whether a signature looks like one of ``encode_items``."""
    return isinstance(signature, str) and signature.encode("utf-8", "replace").startswith(MARK)


def _decode_base64(value: Any) -> str | None:
    """Return the text in base64 of either alphabet, with or without padding; None if it is none."""
    if not isinstance(value, str) or not is_own(value):
        return None
    text = value.translate(_STANDARD).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None


# --------------------------------------------------------------------------------- signatures of upstreams of this API
def encode_part_signature(signature: str, *, is_call: bool) -> str:
    """Return the ``encrypted_content`` of a reasoning item that carries an upstream's signature.

    :param is_call: whether the part with the signature is a function call, which must have it again.
    """
    return signatures.encode(PART, [signature, is_call])


def decode_part_signature(encrypted: Any) -> tuple[str, bool] | None:
    """Return the upstream's signature and whether it belongs to a call; None if it is of another kind of upstream."""
    carried = signatures.decode(PART, encrypted)
    if not isinstance(carried, list) or len(carried) != 2 or not isinstance(carried[0], str):
        return None
    return carried[0], carried[1] is True
