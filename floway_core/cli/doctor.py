"""``floway doctor``: what is wrong with an installation, and how to mend it."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import click

from floway_core.cli.check_result import FAIL, OK, WARN, CheckResult
from floway_core.runtime.log import configure_logging

COLOURS = {OK: "green", WARN: "yellow", FAIL: "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Look for what is wrong, and say how to mend it. Changes nothing; asks every upstream for its models.

    The exit status is 1 when something does not work.
    """
    configure_logging("error")
    findings = []
    for finding in _examine():
        findings.append(finding)
        if not as_json:
            click.echo(
                f"{click.style(f'{finding.status:<4}', COLOURS[finding.status])}  {finding.check}: {finding.told}"
            )
            if finding.mend:
                click.echo(f"      {finding.mend}")
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    context.exit(1 if any(finding.status == FAIL for finding in findings) else 0)


def _examine() -> Iterator[CheckResult]:
    """Every finding as soon as it is made. What depends on something that is broken is left out."""
    import os

    from floway_core.cli import check_host, check_store, check_upstreams  # only this command needs them

    manager, found = check_host.load_plugins()
    yield from found
    settings, found = check_host.load_settings_one_by_one(manager, os.environ)
    yield from found
    if settings is None:
        return
    yield from check_host.files(settings, os.environ)
    yield from check_host.limits(settings)
    database, found = check_store.open_database(settings, manager)
    yield from found
    if database is None:
        return
    box, found = check_store.secret_key(settings, manager, database, os.environ)
    yield from found
    yield from check_store.api_keys(database)
    if box is not None:
        yield from check_upstreams.check(settings, manager, database, box)
    database.close_all()
