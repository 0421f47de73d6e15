"""``floway upstreams add`` and ``set``, with the options that the provider of an upstream declares."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import click

from floway_core.administration import upstreams as administration
from floway_core.administration.forms import connection_form
from floway_core.cli.context import Session, find_session
from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.provider import ConnectionOptions, Provider
from floway_core.runtime.gateway import make_gateway, read_only_services
from floway_core.settings import origin_url
from floway_core.storage import connections, upstreams
from floway_core.storage.connections import Connection


# ---------------------------------------------------------------------------------------------------------- options
def _check(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return click's callback for an option with one value, or with several."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            return tuple(map(parse, value)) if isinstance(value, tuple) else value and parse(value)
        except (ValueError, GatewayError) as error:  # the messages do not quote the value, which may contain a secret
            raise click.BadParameter(str(error)) from None

    return callback


def _check_prefix(prefix: str) -> str:
    upstreams.check_prefix(prefix)
    return prefix


def prefix_option() -> click.Option:
    """Return the option for the prefix, which all upstreams have."""
    help_text = "Clients request PREFIX/model."
    return click.Option(["--prefix"], default="", callback=_check(_check_prefix), help=help_text)


def key_options(declared: ConnectionOptions) -> list[click.Parameter]:
    """Return the options for the source of the key. The key is never an argument: other users can see arguments."""
    file_help = "File with the API key; - reads standard input. Default: a prompt."
    parameters: list[click.Parameter] = [
        click.Option(["--key-file"], type=click.File(), help=file_help),
        click.Option(["--key-env"], metavar="NAME", help="Environment variable with the API key."),
    ]
    if declared.key_is_optional:
        parameters.append(click.Option(["--no-key"], is_flag=True, help="The upstream needs no key."))
    return parameters


def connection_parameters(declared: ConnectionOptions) -> list[click.Parameter]:
    """Return the options for everything but the key."""
    helps = {field.name: field.help for field in connection_form(declared)}
    parameters: list[click.Parameter] = [
        click.Option(["--base-url"], help=helps["base_url"]),
        click.Option(["--allow-http"], is_flag=True, help=helps["allow_http"]),
        click.Option(
            ["--header", "headers"],
            multiple=True,
            callback=_check(connections.parse_header),
            help="'name: value' for every request. Repeatable.",
        ),
        click.Option(
            ["--model", "models"], multiple=True, help="Serve this model, and do not request a list. Repeatable."
        ),
    ]
    for option in declared.options:
        name = option.name.replace("_", "-")
        names = f"--{name}" if option.choices else f"--{name}/--no-{name}"
        kind: dict[str, Any] = {"type": click.Choice(option.choices)} if option.choices else {"default": None}
        parameters.append(click.Option([names, f"option_{option.name}"], help=option.help, **kind))
    return parameters


def read_key(
    declared: ConnectionOptions, key_file: TextIO | None, key_env: str | None, no_key: bool = False
) -> str | None:
    """Read the key from the source that the options name, or from a prompt.

    :returns: None for an upstream without a key.
    """
    if sum((key_file is not None, key_env is not None, no_key)) > 1:
        raise click.UsageError("Use only one of --key-file, --key-env and --no-key.")
    if no_key:
        return None
    if key_env is not None:
        if key_env not in os.environ:
            raise click.UsageError(f"There is no environment variable {key_env}.")
        key = os.environ[key_env]
    elif key_file is None and not sys.stdin.isatty():
        without = " or --no-key" if declared.key_is_optional else ""
        raise click.UsageError(
            f"The key is missing: use --key-file FILE (- for standard input), --key-env NAME{without}."
        )
    else:
        key = key_file.read() if key_file else click.prompt("API key", hide_input=True, err=True)
    key = key.strip()
    connections.check_key(key)
    return key


def parse_base_url(base_url: str, allow_http: bool) -> str:
    """Check a base URL."""
    try:
        return origin_url(base_url, allow_http)
    except ValueError as error:  # its message is the expected form
        hint = " --allow-http allows http in a private network." if base_url.startswith("http:") else ""
        raise click.UsageError(f"--base-url: {error} is expected.{'' if allow_http else hint}") from None


def read_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the provider's options, by name, without those that were not set."""
    named = ((name.removeprefix("option_"), value) for name, value in values.items() if name.startswith("option_"))
    return {name: value for name, value in named if value is not None}


# --------------------------------------------------------------------------------------------------------- commands
class AddGroup(click.Group):
    """One command for each installed provider that declares options, or has no commands of its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the kinds of these providers."""
        root = ctx.find_root()
        assert isinstance(root.command, click.Group)
        command_names = root.command.list_commands(root)
        providers = _providers(find_session(ctx)).items()
        return sorted(kind for kind, provider in providers if provider.connection_options or kind not in command_names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command that adds an upstream of a provider, with the options that it declares."""
        provider = _providers(find_session(ctx)).get(cmd_name)
        if provider is None:
            kinds = ", ".join(self.list_commands(ctx)) or "none"
            raise click.UsageError(f"There is no provider {cmd_name!r}. Providers: {kinds}.")
        if cmd_name not in self.list_commands(ctx):
            raise click.UsageError(
                f"This provider has a command of its own to add an upstream: floway {cmd_name} --help"
            )
        return _add_command(cmd_name, provider.connection_options)


def _providers(session: Session) -> Mapping[str, Provider]:
    """Return the installed providers by kind. Creates nothing, because a command may only ask for help."""
    services = (
        session.services if "services" in vars(session) else read_only_services(session.settings, session.manager)
    )
    return make_gateway(services, session.manager).providers.by_kind


def _add_command(kind: str, declared: ConnectionOptions | None) -> click.Command:
    parameters: list[click.Parameter] = [click.Argument(["name"]), prefix_option()]
    if declared:
        no_test = click.Option(["--no-test"], is_flag=True, help="Do not test it now.")
        parameters += [*connection_parameters(declared), *key_options(declared), no_test]
    help_text = f"Add an upstream of provider {kind}.\n\nIt is added, and then tested; it stays if the test fails."

    @click.pass_context
    def run(context: click.Context, /, name: str, prefix: str, **values: Any) -> None:
        connection = _new_connection(declared, values) if declared else None  # check it before anything is created
        services = find_session(context).services
        if connection:
            connections.add(services, kind, name, connection, prefix)
        else:
            upstreams.add(services.database, kind, name, prefix)
        click.echo(f"Added the upstream {name!r}.", err=True)
        if declared and not values["no_test"]:
            try_upstream(context, name)

    return click.Command(kind, params=parameters, callback=run, help=help_text)


def _new_connection(declared: ConnectionOptions, values: Mapping[str, Any]) -> Connection:
    base_url = values["base_url"] or declared.default_base_url
    if base_url is None:
        raise click.UsageError(f"Missing option '--base-url', such as {declared.example_base_url}.")
    return Connection(
        parse_base_url(base_url, values["allow_http"]),
        read_key(declared, values["key_file"], values["key_env"], values.get("no_key", False)),
        dict(values["headers"]),
        tuple(values["models"]),
        {**{option.name: option.default for option in declared.options}, **read_options(values)},
    )


def try_upstream(context: click.Context, name: str) -> None:
    """Request the models of an upstream, and print the result in one line. For commands that add or change upstreams.

    :param context: click's context of the command.
    """
    try:
        models = administration.test(find_session(context).gateway, name)
    except GatewayError as error:
        click.echo(f"Warning: {error.message} Until it works: floway upstreams test {name}", err=True)
    else:
        click.echo(f"It answers, and serves {len(models)} models.", err=True)


class SetCommand(click.Command):
    """Changes an upstream. Its options depend on the provider of the upstream."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add the options of the provider before the arguments are parsed."""
        if args and not args[0].startswith("-"):
            declared = declared_options(ctx, find_upstream(ctx, args[0]))
            self.params = [click.Argument(["name"]), *connection_parameters(declared), *key_options(declared)]
        return super().parse_args(ctx, args)


def find_upstream(context: click.Context, name: str) -> Upstream:
    """Return the upstream of this name.

    :raises GatewayError: 404, there is none.
    """
    return upstreams.find(find_session(context).services.database, name)


def declared_options(context: click.Context, upstream: Upstream) -> ConnectionOptions:
    """Return the options of an upstream's provider."""
    provider = find_session(context).gateway.providers.by_kind.get(upstream.kind)
    if provider is None or provider.connection_options is None:
        raise click.UsageError(f"{upstream.name!r} has no such settings. See: floway {upstream.kind} --help")
    return provider.connection_options


@click.command("set", cls=SetCommand, params=[click.Argument(["name"])])
@click.pass_context
def set_upstream(context: click.Context, /, name: str, **values: Any) -> None:
    """Change the connection of an upstream.

    This is its URL, key, headers, models and options. Values without an option do not change; the others apply from the
    next request on. `floway upstreams set NAME --help` lists the options.
    """
    services, upstream = find_session(context).services, find_upstream(context, name)
    declared = declared_options(context, upstream)
    current = connections.read(services, upstream)
    changes: dict[str, Any] = {}
    if values["base_url"]:
        changes["base_url"] = parse_base_url(values["base_url"], values["allow_http"])
    if values["key_file"] or values["key_env"] or values.get("no_key"):
        changes["api_key"] = read_key(declared, values["key_file"], values["key_env"], values.get("no_key", False))
    changes |= {"headers": dict(values["headers"])} if values["headers"] else {}
    changes |= {"models": tuple(values["models"])} if values["models"] else {}
    if options := read_options(values):
        changes["options"] = {**current.options, **options}
    if not changes:
        raise click.UsageError("There is nothing to change: see --help.")
    connections.change(services, upstream, **changes)
    click.echo(f"{name}: {', '.join(name.replace('_', ' ') for name in changes)} changed.", err=True)
