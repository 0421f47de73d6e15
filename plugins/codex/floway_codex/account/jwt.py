"""Reading the claims of a JWT. Signatures are not checked: the tokens come from the operator or the token endpoint."""

import base64
import binascii
import re
from typing import Any

from floway_core.protocol import jsontext

SEGMENT = re.compile(r"[A-Za-z0-9_-]+=*")
MAX_TIMESTAMP = 2**53


def decode_claims(token: str) -> dict[str, Any]:
    """The claims of ``token``, which has three base64url segments, with or without padding.

    :raises ValueError: ``token`` is not a JWT; the message does not quote it.
    """
    segments = token.split(".")
    if len(segments) != 3 or not SEGMENT.fullmatch(segments[1]):
        raise ValueError("not a JWT")
    payload = segments[1].rstrip("=")
    try:
        decoded = jsontext.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError):
        raise ValueError("a JWT whose claims cannot be read") from None
    if not isinstance(decoded, dict):
        raise ValueError("a JWT whose claims are no object")
    return decoded


def read_expiry(token: str) -> int | None:
    """The ``exp`` claim in Unix seconds; None if there is no valid one."""
    try:
        exp = decode_claims(token).get("exp")
    except ValueError:
        return None
    if isinstance(exp, bool) or not isinstance(exp, (int, float)) or not 0 < exp < MAX_TIMESTAMP:
        return None
    return int(exp)
