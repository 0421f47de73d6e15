"""What the commands of one call share."""

import functools
from dataclasses import dataclass
from typing import Any

import click
import pluggy

from floway_core.contexts import Services
from floway_core.runtime.gateway import Gateway, make_gateway, open_services, read_only_services, read_settings
from floway_core.runtime.log import configure_logging
from floway_core.settings import Settings


@dataclass
class Session:
    """What the commands of one call share; each part is made when it is first needed."""

    manager: pluggy.PluginManager
    read_only: bool = False
    """Whether the command only looks: then no data folder, database or secret key is made for it."""

    @functools.cached_property
    def settings(self) -> Settings:
        settings = read_settings(self.manager)
        level = settings.log_level if settings.log_level != "info" else "warning"
        configure_logging(level, settings.log_format)
        return settings

    @functools.cached_property
    def services(self) -> Services:
        return (read_only_services if self.read_only else open_services)(self.settings, self.manager)

    @functools.cached_property
    def gateway(self) -> Gateway:
        return make_gateway(self.services, self.manager)


class ReadOnlyCommand(click.Command):
    """A command that only looks. Where nothing has been set up yet, it sees an empty installation, and makes none."""

    def invoke(self, ctx: click.Context) -> Any:
        if session := ctx.find_object(Session):
            session.read_only = True
        return super().invoke(ctx)


def services(context: click.Context) -> Services:
    """The services for a command, from its click context. Opens the database, and brings its schema up to date.

    If it is not there yet it is made, unless the command is a ``ReadOnlyCommand``.
    """
    return context.find_object(Session).services
