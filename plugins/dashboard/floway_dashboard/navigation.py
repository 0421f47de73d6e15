"""The menu."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A page in the menu."""

    endpoint: str
    label: str
    icon: str
    """The name of a symbol in ``templates/dashboard/icons.html``."""


ENTRIES = (
    Entry("dashboard.overview.index", "Overview", "home"),
    Entry("dashboard.access.index", "Access", "lock"),
)
