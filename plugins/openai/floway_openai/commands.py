"""The commands ``floway openai ...``."""

import json
import re
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

import click

from floway_core import cli
from floway_core.contexts import Services, Upstream
from floway_core.errors import GatewayError
from floway_core.settings import origin_url
from floway_core.storage import upstreams
from floway_openai import connections, headers
from floway_openai.connections import Connection

Command = TypeVar("Command", bound=Callable[..., None])


@click.group()
def openai() -> None:
    """Upstreams that speak the OpenAI Responses API, with an API key."""


def _parse_url(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return origin_url(value)
    except ValueError as error:  # its message is the expected form
        raise click.BadParameter(f"{error} is expected") from None


def _parse_headers(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    try:
        return dict(map(headers.parse_header, values))
    except ValueError as error:  # its message does not quote the header, which may hold a secret
        raise click.BadParameter(str(error)) from None


def _check_prefix(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        upstreams.check_prefix(value)
    except GatewayError as error:
        raise click.BadParameter(error.message) from None
    return value


def _key_options(command: Command) -> Command:
    command = click.option("--no-key", is_flag=True, help="The upstream needs no key.")(command)
    return click.option(
        "--key-file", type=click.File(), help="File with the API key; - reads standard input. Default: a prompt."
    )(command)


def _read_key(file: TextIO | None, no_key: bool) -> str | None:
    if no_key:
        if file:
            raise click.UsageError("--no-key and --key-file contradict each other.")
        return None
    if file is None and not sys.stdin.isatty():
        raise click.UsageError("Where is the key? Give --key-file FILE (- for standard input) or --no-key.")
    key = (file.read() if file else click.prompt("API key", hide_input=True, err=True)).strip()
    if not re.fullmatch(r"[!-~]+", key):
        raise click.ClickException("This is no API key: one line of printable ASCII is expected.")
    return key


@openai.command()
@click.argument("name")
@click.option("--base-url", required=True, callback=_parse_url, help="With its path: https://api.openai.com/v1")
@_key_options
@click.option(
    "--header", "extra", multiple=True, callback=_parse_headers, help="'name: value' for every request. Repeatable."
)
@click.option("--model", "models", multiple=True, help="Serve this model, and do not request a list. Repeatable.")
@click.option("--prefix", default="", callback=_check_prefix, help="Clients ask for PREFIX/model.")
@click.option("--compacts", is_flag=True, help="The upstream takes compaction_trigger items, as another Floway does.")
@click.option("--no-test", is_flag=True, help="Do not test it now.")
@click.pass_context
def add(
    context: click.Context,
    name: str,
    base_url: str,
    key_file: TextIO | None,
    no_key: bool,
    extra: dict[str, str],
    models: tuple[str, ...],
    prefix: str,
    compacts: bool,
    no_test: bool,
) -> None:
    """Add an upstream, and test whether it answers. It is added in either case."""
    connection = Connection(base_url, _read_key(key_file, no_key), extra, models, compacts)
    connections.add(cli.services(context), name, connection, prefix)
    click.echo(f"Added the upstream {name!r}.", err=True)
    if not no_test:
        cli.try_upstream(context, name)


@openai.command("set-key")
@click.argument("name")
@_key_options
@click.pass_context
def set_key(context: click.Context, name: str, key_file: TextIO | None, no_key: bool) -> None:
    """Replace the key, from the next request on. Nothing else changes."""
    services = cli.services(context)
    row = next((row for row in connections.list_upstreams(services) if row.name == name), None)
    if row is None:
        raise click.ClickException(f"There is no OpenAI upstream named {name!r}.")
    connections.read(services, row)  # raises if the row was encrypted with another secret key, which must not be mixed
    connections.replace_key(services, row, _read_key(key_file, no_key))
    click.echo(f"{name}: the key is replaced", err=True)


@openai.command("list", cls=cli.ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_(context: click.Context, as_json: bool) -> None:
    """List the upstreams. Keys and the values of headers are not shown."""
    services = cli.services(context)
    rows = [_describe(services, row) for row in connections.list_upstreams(services)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("There is no OpenAI upstream. `floway openai add NAME --base-url URL` adds one.")
    for row in [] if as_json else rows:
        click.echo(f"{row['name']}  {row['base_url'] or ''}{'' if row['enabled'] else '  (disabled)'}")
        if row["problem"]:
            click.echo(f"    problem: {row['problem']}")
            continue
        click.echo(f"    key: {'yes' if row['key'] else 'none'}, compacts: {'yes' if row['compacts'] else 'no'}")
        click.echo(f"    models: {', '.join(row['models']) or 'as it lists them'}, prefix: {row['prefix'] or 'none'}")
        if row["headers"]:
            click.echo(f"    headers: {', '.join(row['headers'])}")


def _describe(services: Services, upstream: Upstream) -> dict[str, Any]:
    """Describe an upstream for the list. If its connection cannot be read, ``problem`` says why."""
    connection, problem = None, None
    try:
        connection = connections.read(services, upstream)
    except GatewayError as error:
        problem = error.message
    return {
        "name": upstream.name,
        "enabled": upstream.enabled,
        "prefix": upstream.prefix,
        "problem": problem,
        "base_url": connection and connection.base_url,
        "key": connection and connection.api_key is not None,
        "headers": connection and sorted(connection.headers),
        "models": connection and list(connection.models),
        "compacts": connection and connection.supports_compaction,
    }
