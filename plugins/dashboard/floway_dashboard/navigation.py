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


ENTRIES = (
    Entry("dashboard.overview.index", "Overview", "home"),
    Entry("dashboard.live.index", "Live requests", "live"),
    Entry("dashboard.playground.index", "Playground", "play"),
    Entry("dashboard.installation.doctor", "Doctor", "doctor"),
    Entry("dashboard.installation.settings", "Settings", "settings"),
    Entry("dashboard.access.index", "Access", "lock"),
)


def current_entry() -> Entry | None:
    """Return the entry to which the current page belongs: itself, or a page of the same module."""
    found = [entry for entry in ENTRIES if entry.endpoint == request.endpoint]
    blueprint = f"{request.blueprint}."
    return next(iter(found or [entry for entry in ENTRIES if entry.endpoint.startswith(blueprint)]), None)
