"""Encode values of the gateway that clients store and send back, in fields that their API declares opaque.

A mark and a checksum distinguish them from values of others and from damaged ones. They are neither secret nor a proof:
a client can send the same values through the Responses API.
"""

import base64
import binascii
import hashlib
from typing import Any

from floway_core.protocol import jsontext

MARK = "floway.1."
"""Begins every value."""

_CHECKSUM_LENGTH = 16


def encode(kind: str, payload: Any) -> str:
    """Encode a JSON value. Equal payloads give equal texts.

    :param kind: the kind of value, which ``decode`` checks.
    """
    content = base64.urlsafe_b64encode(jsontext.dumps(payload)).decode()
    return f"{MARK}{kind}.{_checksum(content)}.{content}"


def decode(kind: str, value: Any) -> Any:
    """Return the JSON value that ``encode`` has encoded; None if the value is foreign or damaged."""
    prefix = f"{MARK}{kind}."
    if not isinstance(value, str) or not value.startswith(prefix) or not value.isascii():
        return None
    checksum, _, content = value.removeprefix(prefix).partition(".")
    if checksum != _checksum(content):
        return None
    try:
        return jsontext.loads(base64.urlsafe_b64decode(content))
    except (binascii.Error, ValueError):  # a client has invented it
        return None


def is_own(value: Any) -> bool:
    """Return whether a value looks like a result of ``encode``."""
    return isinstance(value, str) and value.startswith(MARK)


def _checksum(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:_CHECKSUM_LENGTH]
