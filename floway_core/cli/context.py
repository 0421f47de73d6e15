"""The session of one call of the command line, and access to it for commands."""

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
    """The settings, services and gateway of one call of the command line. Each is created when first needed."""

    manager: pluggy.PluginManager
    read_only: bool = False
    """Whether the command is read-only. Then no data folder, database or secret key is created."""

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings. Reading them configures the log."""
        settings = read_settings(self.manager)
        level = settings.log_level if settings.log_level != "info" else "warning"
        configure_logging(level, settings.log_format)
        return settings

    @functools.cached_property
    def services(self) -> Services:
        """The services, with a database that is up to date."""
        return (read_only_services if self.read_only else open_services)(self.settings, self.manager)

    @functools.cached_property
    def gateway(self) -> Gateway:
        """The gateway, without a server."""
        return make_gateway(self.services, self.manager)


class ReadOnlyCommand(click.Command):
    """A command that changes nothing. Without an installation it sees an empty one, and does not create it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Mark the session as read-only, and run the command."""
        if session := ctx.find_object(Session):
            session.read_only = True
        return super().invoke(ctx)


def services(context: click.Context) -> Services:
    """Return the services for a command. Opens the database, and brings its schema up to date.

    A database that does not exist is created, unless the command is a ``ReadOnlyCommand``.

    :param context: click's context of the command.
    """
    return find_session(context).services


def find_session(context: click.Context) -> Session:
    """Return the session of a command.

    :param context: click's context of the command.
    """
    session = context.find_object(Session)
    if session is None:
        raise RuntimeError("The command line has no session.")
    return session
