"""The result of one check of ``floway doctor``."""

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class CheckResult:
    """One line of the report."""

    check: str
    """What was checked, in one or two words."""
    status: str
    """``ok``; ``warn``: it works, but not for long or not for all; ``fail``: something does not work."""
    message: str
    remedy: str = ""
    """What to do about it; empty if the status is ``ok``."""
