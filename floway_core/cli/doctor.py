"""``floway doctor``: check an installation."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict

import click

from floway_core.administration.check_result import FAIL, OK, WARN, CheckResult
from floway_core.runtime.log import configure_logging

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
    from floway_core.administration.doctor import check_installation
    from floway_core.web.app import build_app  # only this command needs them

    return check_installation(os.environ, build_app)
