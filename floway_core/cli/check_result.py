"""What one check of ``floway doctor`` has found."""

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class CheckResult:
    """One line of the report."""

    check: str
    """A word: what was looked at."""
    status: str
    """``ok``; ``warn``: it works, but not for ever or not for everybody; ``fail``: something does not work."""
    told: str
    mend: str = ""
    """What to do about it; empty when it is ok."""
