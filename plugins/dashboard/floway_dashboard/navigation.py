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
    Entry("dashboard.upstreams.index", "Upstreams", "upstream"),
    Entry("dashboard.models.index", "Models", "model"),
    Entry("dashboard.keys.index", "API keys", "key"),
    Entry("dashboard.conversations.index", "Conversations", "chat"),
    Entry("dashboard.access.index", "Access", "lock"),
)
