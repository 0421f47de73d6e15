"""What the commands of one call share."""

import functools
from dataclasses import dataclass

import click
import pluggy

from floway_core.config import Settings
from floway_core.contexts import Services
from floway_core.gateway import Gateway, make_gateway, open_services, read_settings
from floway_core.log import configure_logging


@dataclass
class Session:
    """What the commands of one call share; each part is made when it is first needed."""

    manager: pluggy.PluginManager

    @functools.cached_property
    def settings(self) -> Settings:
        settings = read_settings(self.manager)
        level = settings.log_level if settings.log_level != "info" else "warning"
        configure_logging(level, settings.log_format)
        return settings

    @functools.cached_property
    def services(self) -> Services:
        return open_services(self.settings, self.manager)

    @functools.cached_property
    def gateway(self) -> Gateway:
        return make_gateway(self.services, self.manager)


def services(context: click.Context) -> Services:
    """The services for a command, from its click context. Opens the database, and brings its schema up to date."""
    return context.find_object(Session).services
