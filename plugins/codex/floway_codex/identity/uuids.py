"""UUIDs in their canonical text form: checks, and making one from a digest.

This module supports all versions; ``uuid.UUID`` can make 1 to 5 only, and ``uuid6.UUID`` 6 to 8.
"""

import re

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def is_uuid4(text: str) -> bool:
    """Whether ``text`` is a random UUID in canonical form."""
    return UUID4.fullmatch(text) is not None


def format_uuid(digits: str, version: int) -> str:
    """Make a UUID of the first 32 hexadecimal digits; the bits of version and variant are replaced."""
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-{version:x}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"
