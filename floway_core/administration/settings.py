"""The settings of the running gateway, without secrets."""

from collections.abc import Mapping
from dataclasses import dataclass

import pluggy

from floway_core.runtime import plugins
from floway_core.runtime.settings_loader import describe_settings
from floway_core.settings import Settings


@dataclass(frozen=True)
class ShownSetting:
    """A setting with its effective value."""

    variable: str
    """Its environment variable."""
    value: str
    """``(hidden)`` for a secret, ``(not set)`` for none."""
    help: str


def list_settings(settings: Settings, manager: pluggy.PluginManager, environ: Mapping[str, str]) -> list[ShownSetting]:
    """List all settings of core and of the plugins.

    :param environ: the environment of the process, for the variables that name files of secrets.
    """
    rows = describe_settings(settings, plugins.declared_settings(manager), environ)
    return [ShownSetting(setting.variable, value, setting.help) for setting, value in rows]
