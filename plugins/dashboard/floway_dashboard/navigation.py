"""The menu."""

from dataclasses import dataclass

from flask import request


@dataclass(frozen=True)
class Entry:
    """A page in the menu."""

    endpoint: str
    label: str
    icon: str
    """The name of a symbol in ``templates/dashboard/icons.html``."""
    also: str = ""
    """The name of another blueprint whose pages belong to it."""


ENTRIES = (
    Entry("dashboard.overview.index", "Overview", "home"),
    Entry("dashboard.live.index", "Live requests", "live"),
    Entry("dashboard.upstreams.index", "Upstreams", "upstream", also="new_upstream"),
    Entry("dashboard.models.index", "Models", "model"),
    Entry("dashboard.keys.index", "API keys", "key", also="groups"),
    Entry("dashboard.conversations.index", "Conversations", "chat"),
    Entry("dashboard.playground.index", "Playground", "play"),
    Entry("dashboard.doctor.index", "Doctor", "doctor"),
    Entry("dashboard.settings.index", "Settings", "settings"),
    Entry("dashboard.access.index", "Access", "lock"),
)


def current_entry() -> Entry | None:
    """Return the entry to which the current page belongs."""
    blueprint = (request.blueprint or "").rpartition(".")[2]
    return next((entry for entry in ENTRIES if blueprint in (entry.endpoint.split(".")[1], entry.also)), None)
