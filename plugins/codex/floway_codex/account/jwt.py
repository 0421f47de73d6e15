"""Reading the claims of a JWT. Signatures are not checked: the tokens come from the operator or the token endpoint."""

import base64
import binascii
import re
from typing import Any

from floway_core.protocol import jsontext

SEGMENT = re.compile(r"[A-Za-z0-9_-]+=*")
LATEST = 2**53


def claims(token: str) -> dict[str, Any]:
    """The claims of ``token``: three segments in base64url, with or without padding.

    :raises ValueError: not a JWT; the message does not quote it.
    """
    segments = token.split(".")
    if len(segments) != 3 or not SEGMENT.fullmatch(segments[1]):
        raise ValueError("not a JWT")
    payload = segments[1].rstrip("=")
    try:
        found = jsontext.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError):
        raise ValueError("a JWT whose claims cannot be read") from None
    if not isinstance(found, dict):
        raise ValueError("a JWT whose claims are no object")
    return found


def expiry(token: str) -> int | None:
    """The ``exp`` claim in Unix seconds, or None when the token does not say."""
    try:
        exp = claims(token).get("exp")
    except ValueError:
        return None
    if isinstance(exp, bool) or not isinstance(exp, (int, float)) or not 0 < exp < LATEST:
        return None
    return int(exp)
