"""``floway doctor``: check an installation."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict

import click

from floway_core.cli.check_result import FAIL, OK, WARN, CheckResult
from floway_core.runtime.log import configure_logging
from floway_core.storage.db import close_connections

COLOURS = {OK: "green", WARN: "yellow", FAIL: "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Find problems, and how to fix them. Changes nothing, and requests the models of every upstream.

    The exit status is 1 when something does not work.
    """
    configure_logging("error")
    results = []
    for result in _run_checks():
        results.append(result)
        if not as_json:
            click.echo(
                f"{click.style(f'{result.status:<4}', COLOURS[result.status])}  {result.check}: {result.message}"
            )
            if result.remedy:
                click.echo(f"      {result.remedy}")
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], indent=2))
    context.exit(1 if any(result.status == FAIL for result in results) else 0)


def _run_checks() -> Iterator[CheckResult]:
    """Yield each result as soon as it is available. A check that depends on a failed one is skipped."""
    from floway_core.cli import check_host, check_store, check_upstreams  # only this command needs them

    manager, results = check_host.load_plugins()
    yield from results
    settings, results = check_host.load_settings_one_by_one(manager, os.environ)
    yield from results
    if settings is None:
        return
    yield from check_host.files(settings, os.environ)
    yield from check_host.limits(settings)
    database, results = check_store.open_database(settings, manager)
    yield from results
    if database is None:
        return
    box, results = check_store.secret_key(settings, manager, database, os.environ)
    yield from results
    yield from check_store.api_keys(database)
    if box is not None:
        yield from check_upstreams.check(settings, manager, database, box)
    close_connections(database)
