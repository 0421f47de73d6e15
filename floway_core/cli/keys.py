"""``floway keys``: API keys of clients."""

import datetime
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar, cast

import click

from floway_core.administration import keys
from floway_core.administration.keys import Options
from floway_core.cli.budget_options import BUDGET_FIELDS, budget_options, describe_budget, read_budgets
from floway_core.cli.confirm import confirm, yes_option
from floway_core.cli.context import ReadOnlyCommand, services
from floway_core.cli.table import date, table

SECONDS_OF_UNIT = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}

FIELDS = {
    "expires": "expires_at",
    "model": "models",
    "upstream": "upstreams",
    "requests-per-minute": "requests_per_minute",
    "concurrent": "concurrent_requests",
    "tokens-per-day": "tokens_per_day",
    "stored-bytes": "max_stored_bytes",
    "shows-account": "shows_account",
    "group": "group",
}
"""Fields of a key, by the option that sets each."""

CLEARED_FIELDS = {**{option: (field,) for option, field in FIELDS.items()}, "budget": BUDGET_FIELDS}
"""The fields that ``--clear`` resets, by option."""

Command = TypeVar("Command", bound=Callable[..., Any])


class FutureTime(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """A duration from now, or a date, as Unix seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the value; fail with a message of click if it is invalid."""
        if duration := re.fullmatch(r"(\d{1,6})([mhdw])", value):
            return int(time.time()) + int(duration[1]) * SECONDS_OF_UNIT[duration[2]]
        try:
            timestamp = int(datetime.datetime.fromisoformat(value).timestamp())
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a span such as 30d or 12h nor a date such as 2030-12-31.", param, ctx)
        if timestamp <= time.time():
            self.fail(f"{value!r} is over.", param, ctx)
        return timestamp


def _limit_option(option: str, help: str) -> Callable[[Command], Command]:
    return click.option(f"--{option}", FIELDS[option], type=click.IntRange(1), metavar="N", help=help)


def _permission_options(command: Command) -> Command:
    """Add the options for the permissions and limits of a key."""
    for option in (
        click.option("--group", help="The group whose budget it shares; see `floway groups`."),
        budget_options,
        click.option(
            "--shows-account",
            is_flag=True,
            flag_value=True,
            default=None,
            help="Let its clients see plan, quota and user of the upstream account.",
        ),
        _limit_option("stored-bytes", "Size of its conversations in the database, in bytes."),
        _limit_option("tokens-per-day", "Input and output tokens in a UTC day."),
        _limit_option("concurrent", "Requests at the same time, streamed or not."),
        _limit_option("requests-per-minute", "Requests that are admitted."),
        click.option("--upstream", "upstreams", multiple=True, help="An upstream it may use; repeat it for more."),
        click.option("--model", "models", multiple=True, help="A model it may use; repeat it for more."),
        click.option(
            "--expires",
            "expires_at",
            type=FutureTime(),
            metavar="30d|DATE",
            help="When it expires: 30d, 12h, or a local date.",
        ),
    ):
        command = option(command)
    return command


def _read_options(parameters: dict[str, Any], cleared: tuple[str, ...] = ()) -> Options:
    """Return the options of a key from the parameters of a command.

    :param cleared: options to reset.
    """
    values = {name: value for name, value in parameters.items() if value not in (None, ())}
    values |= read_budgets(values.pop("budgets", ()))
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    for option in cleared:
        for field in CLEARED_FIELDS[option]:
            if field in values:
                raise click.UsageError(f"--{option} is both set and cleared.")
            options[field] = None
    return cast(Options, options)


@click.group("keys")
def keys_group() -> None:
    """API keys of clients."""


@keys_group.command("create")
@click.argument("name")
@_permission_options
@click.pass_context
def create_key(context: click.Context, /, name: str, **parameters: Any) -> None:
    """Create a key and print it. It cannot be shown again: only its hash is stored.

    Without options it may use every model of every upstream, without limits or expiry.
    """
    click.echo(keys.create(services(context).database, name, _read_options(parameters)))


@keys_group.command("change")
@click.argument("name")
@_permission_options
@click.option("--clear", multiple=True, type=click.Choice(list(CLEARED_FIELDS)), help="Reset this option.")
@click.pass_context
def change_key(context: click.Context, /, name: str, clear: tuple[str, ...], **parameters: Any) -> None:
    """Change the permissions and limits of a key.

    The change applies from its next request on. Options that are not given do not change.
    """
    options = _read_options(parameters, clear)
    if not options:
        raise click.UsageError("There is nothing to change.")
    keys.change(services(context).database, name, options)
    click.echo(f"The key {name!r} is changed.", err=True)


@keys_group.command("list", cls=ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def list_keys(context: click.Context, as_json: bool) -> None:
    """List all keys, including revoked ones.

    The last use is accurate to a minute.
    """
    rows = keys.all_rows(services(context).database)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif not rows:
        click.echo("There is no API key. `floway keys create NAME` creates one for a client.")
    else:
        cells = [
            (
                row.name,
                row.hint,
                date(row.created_at),
                date(row.last_used_at),
                date(row.expires_at),
                date(row.revoked_at),
                _format_limits(row),
            )
            for row in rows
        ]
        click.echo(table(("NAME", "KEY", "CREATED", "LAST USED", "EXPIRES", "REVOKED", "LIMITS"), cells))


def _format_limits(row: keys.KeyRow) -> str:
    terms = [
        row.models is not None and f"models {', '.join(row.models)}",
        row.upstreams is not None and f"upstreams {', '.join(row.upstreams)}",
        row.requests_per_minute and f"{row.requests_per_minute}/minute",
        row.concurrent_requests and f"{row.concurrent_requests} at a time",
        row.tokens_per_day and f"{row.tokens_per_day} tokens/day",
        row.max_stored_bytes and f"{row.max_stored_bytes} stored bytes",
        row.shows_account and "shows the account",
        row.group is not None and f"group {row.group}",
        *describe_budget(row.usd_per_day, row.usd_per_month, row.spent),
        row.allows_unpriced and "models without a price allowed",
    ]
    return "; ".join(term for term in terms if term) or "-"


@keys_group.command("revoke")
@click.argument("name")
@click.pass_context
def revoke_key(context: click.Context, name: str) -> None:
    """Refuse a key from now on."""
    keys.revoke(services(context).database, name)
    click.echo(f"The key {name!r} is revoked.", err=True)


@keys_group.command("delete")
@click.argument("name")
@yes_option
@click.pass_context
def delete_key(context: click.Context, name: str, yes: bool) -> None:
    """Remove a key and all conversations it has stored. Asks first."""
    database = services(context).database
    keys.find(database, name)
    confirm(f"This deletes the key {name!r} and all conversations it has stored.", yes)
    keys.delete(database, name)
    click.echo(f"The key {name!r} and its conversations are deleted.", err=True)
