"""``floway serve``."""

import logging
from collections.abc import Sequence

import click

from floway_core import __version__
from floway_core.cli.context import Session
from floway_core.runtime.gateway import Gateway
from floway_core.runtime.log import JSON, configure_logging
from floway_core.settings import Settings
from floway_core.storage import keys, upstreams

log = logging.getLogger("floway")


@click.command()
@click.option("--bind", metavar="HOST:PORT", help="Where to listen (setting FLOWAY_BIND).")
@click.pass_obj
def serve(session: Session, bind: str | None) -> None:
    """Run the gateway."""
    import os

    from floway_core.server.command import Server, allow_files, check_bind, share_metrics
    from floway_core.web.app import create_app  # only this command needs the web framework

    if bind:
        os.environ["FLOWAY_BIND"] = bind  # workers read their settings from the environment, too
    check_bind(session.settings.bind)
    allow_files(session.settings)
    # What keeps a worker from starting is found here, where it can be said in one line.
    gateway: Gateway = create_app(session.settings, session.manager).extensions["floway"]
    missing = _missing(gateway)
    gateway.services.database.close_all()
    if session.settings.serves_metrics:
        share_metrics()

    def begin(addresses: Sequence[str]) -> None:
        _say(session.settings, logging.INFO, f"Floway {__version__} listens on {', '.join(addresses)}")
        for line in missing:
            _say(session.settings, logging.WARNING, f"  missing: {line}")

    def end() -> None:
        _say(session.settings, logging.INFO, "Floway has stopped")

    Server(session.settings, begin, end).run()


def _say(settings: Settings, level: int, line: str) -> None:
    """Tell the operator: as it is, or as one more line of a log that programs read."""
    if settings.log_format == JSON:
        configure_logging(settings.log_level, JSON)
        log.log(level, "%s", line.strip())
    else:
        click.echo(line, err=True)


def _missing(gateway: Gateway) -> list[str]:
    """What still keeps clients from being served, and what mends it."""
    database, providers, missing = gateway.services.database, gateway.providers, []
    rows = upstreams.all_rows(database)
    for row in rows:
        if row.kind not in providers.by_kind:
            missing.append(f"the plugin of provider {row.kind!r}, which the upstream {row.name!r} needs")
        elif row.enabled and (problem := gateway.unavailable_reason(row)):
            missing.append(f"the upstream {row.name!r}. {problem}")
    if not providers.by_kind:
        missing.append("a provider. Install one, for example: pip install floway-<provider>")
    elif not any(row.enabled and row.kind in providers.by_kind for row in rows):
        kinds = ", ".join(f"`floway {kind} --help`" for kind in sorted(providers.by_kind))
        missing.append(f"an upstream. See {kinds}")
    if not any(row.revoked_at is None for row in keys.all_rows(database)):
        missing.append("an API key for the clients. Make one with: floway keys create NAME")
    return missing
