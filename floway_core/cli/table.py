"""Format tables and dates for a terminal."""

import time
from typing import Any


def table(headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Format rows as columns of text below their headings."""
    lines = [headings, *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def date(unix_seconds: int | None) -> str:
    """Format a time in the local time zone; ``-`` for none."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_seconds)) if unix_seconds else "-"
