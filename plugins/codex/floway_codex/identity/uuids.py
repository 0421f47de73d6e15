"""UUIDs in their canonical text form: checks, times, and making one from a digest.

This module supports all versions; ``uuid.UUID`` can make 1 to 5 only, and ``uuid6.UUID`` 6 to 8.
"""

import os
import re
import time
import uuid

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

USUAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""Hexadecimal digit -> the one with the same two lowest bits, whose two highest bits are those of the variant."""
DAY_MS = 86_400_000
LATEST_DERIVED_MS = 1_790_000_000_000
"""The latest time in derived ids without a better one, in milliseconds: 2026-09-21."""


def is_uuid4(text: str) -> bool:
    """Whether ``text`` is a random UUID in canonical form."""
    return UUID4.fullmatch(text) is not None


def format_uuid(digits: str, version: int) -> str:
    """Make a UUID of the first 32 hexadecimal digits, in lower case; the bits of version and variant are replaced."""
    variant = VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-{version:x}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def new_uuid7() -> str:
    """Make a UUIDv7 of the time and of chance. The library that core uses takes four times as long."""
    return format_uuid(f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}", 7)


def parse_uuid(text: str) -> tuple[str, int | None] | None:
    """The hexadecimal digits and the version of a UUID in any form; None if ``text`` is none."""
    if USUAL_UUID.fullmatch(text):  # the class takes ten times as long
        return text.replace("-", ""), int(text[14])
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return None
    return parsed.hex, parsed.version


def read_time(text: str) -> int | None:
    """The time in a UUIDv7, Unix time in milliseconds; None if ``text`` is no UUIDv7."""
    return int(text[:8] + text[9:13], 16) if UUID7.fullmatch(text) else None


def derive_time(digits: str, latest: int = LATEST_DERIVED_MS) -> int:
    """A time in milliseconds that only depends on ``digits``, for UUIDs that are derived: within the day before
    ``latest``."""
    return latest - int(digits[-12:], 16) % DAY_MS


def derive_uuid7(digits: str, latest: int = LATEST_DERIVED_MS) -> str:
    """A UUIDv7 that only depends on these 64 hexadecimal digits and ``latest``."""
    return format_uuid(f"{derive_time(digits, latest):012x}{digits}", 7)
