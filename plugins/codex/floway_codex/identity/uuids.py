"""UUIDs as texts in their usual form: telling one, and making one of a digest.

Of any version: ``uuid.UUID`` takes 1 to 5 only, and ``uuid6.UUID`` 6 to 8.
"""

import re

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def is_uuid4(text: str) -> bool:
    """Whether this is the usual text of a random UUID."""
    return UUID4.fullmatch(text) is not None


def shaped(digits: str, version: int) -> str:
    """The UUID of a version that begins with these hexadecimal digits (at least 32), but for what tells version and
    variant."""
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-{version:x}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"
