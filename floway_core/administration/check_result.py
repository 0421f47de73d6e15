"""The result of one check of ``floway doctor``."""

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class CheckResult:
    """One line of the report."""

    check: str
    """The subject of the check, in one or two words."""
    status: str
    """``ok``; ``warn``: it works, with risks; ``fail``: something does not work."""
    message: str
    remedy: str = ""
    """How to fix it; empty if the status is ``ok``."""
