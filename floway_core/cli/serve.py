"""``floway serve``: run the gateway."""

import logging
import os
import select
from collections.abc import Sequence

import click

from floway_core import __version__
from floway_core.cli.context import Session
from floway_core.errors import StartupError
from floway_core.runtime.gateway import Gateway
from floway_core.runtime.log import JSON, configure_logging
from floway_core.settings import Settings
from floway_core.storage import keys, upstreams
from floway_core.storage.db import close_connections

log = logging.getLogger("floway")


@click.command()
@click.option("--bind", metavar="HOST:PORT", help="Where to listen (setting FLOWAY_BIND).")
@click.pass_obj
def serve(session: Session, bind: str | None) -> None:
    """Run the gateway."""
    check_platform()
    from floway_core.server.allocator import limit_arenas
    from floway_core.server.command import Server, allow_files, check_bind, try_threads
    from floway_core.server.metrics_folder import share_metrics
    from floway_core.web.app import create_app  # only this command needs the web framework

    if bind:
        os.environ["FLOWAY_BIND"] = bind  # workers read their settings from the environment, too
    limit_arenas()
    check_bind(session.settings.bind, lambda message: _report(session.settings, logging.WARNING, message))
    allow_files(session.settings)
    warn_of_missing_threads = try_threads(session.settings)
    # Find problems here that would stop a worker from starting, so that one line reports them.
    gateway: Gateway = create_app(session.settings, session.manager).extensions["floway"]
    problems = _find_problems(gateway)
    close_connections(gateway.services.database)
    warn_of_missing_threads()
    if session.settings.serves_metrics:
        share_metrics()

    def on_ready(addresses: Sequence[str]) -> None:
        _report(session.settings, logging.INFO, f"Floway {__version__} listens on {', '.join(addresses)}")
        for problem in problems:
            _report(session.settings, logging.WARNING, f"  missing: {problem}")

    def on_exit() -> None:
        _report(session.settings, logging.INFO, "Floway has stopped")

    Server(session.settings, on_ready, on_exit).run()


def check_platform() -> None:
    """Check for Linux's hang-up event, which reports that a client disconnects even if it has unread bytes.

    :raises StartupError: this system does not have it.
    """
    if not hasattr(select, "EPOLLRDHUP"):
        raise StartupError("Floway needs Linux to serve: this system has no hang-up event in epoll (EPOLLRDHUP).")


def _report(settings: Settings, level: int, line: str) -> None:
    """Print a line for the operator, or log it if the log is JSON."""
    if settings.log_format == JSON:
        configure_logging(settings.log_level, JSON)
        log.log(level, "%s", line.strip())
    else:
        click.echo(line, err=True)


def _find_problems(gateway: Gateway) -> list[str]:
    """Find what clients need and is still missing, and how to set it up."""
    missing: list[str] = []
    if file := gateway.services.secrets.missing_file:
        missing.append(
            f"the secret key {file}, which stored credentials need. Restore it from the backup, or delete them with: "
            "floway secrets init --forget"
        )
    database, providers = gateway.services.database, gateway.providers
    rows = upstreams.all_rows(database)
    for row in rows:
        if row.kind not in providers.by_kind:
            missing.append(f"the plugin of provider {row.kind!r}, which the upstream {row.name!r} needs")
        elif row.enabled and (problem := gateway.find_problem(row)):
            missing.append(f"the upstream {row.name!r}. {problem}")
    if not providers.by_kind:
        missing.append("a provider. Install one, for example: pip install floway-<provider>")
    elif not any(row.enabled and row.kind in providers.by_kind for row in rows):
        kinds = sorted(providers.by_kind.items())
        commands = (f"upstreams add {kind}" if provider.connection_options else kind for kind, provider in kinds)
        missing.append(f"an upstream. See {', '.join(f'`floway {command} --help`' for command in commands)}")
    if not any(row.revoked_at is None for row in keys.all_rows(database)):
        missing.append("an API key for the clients. Create one with: floway keys create NAME")
    return missing
