"""Durations as texts in headers."""

import math


def format_duration(microseconds: int) -> str:
    """Format a duration as OpenAI does: ``20ms``, ``1.5s``, ``6m0s``, ``13h4m12s``. Rounded up."""
    milliseconds = math.ceil(microseconds / 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    seconds = f"{milliseconds / 1000:g}s"
    if minutes == 0:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"
