"""``floway codex ...``"""

import json
import os
import time
from pathlib import Path
from typing import BinaryIO

import click

from floway_codex.account import accounts, browser, login, status
from floway_codex.account.auth_file import KIND, import_account
from floway_codex.account.login_callback import Callback
from floway_core import cli
from floway_core.contexts import Services, Upstream
from floway_core.protocol import jsontext
from floway_core.settings import address
from floway_core.storage import upstreams


@click.group()
def codex() -> None:
    """Codex accounts."""


@codex.command(name="import")
@click.argument("file", type=click.File("rb"))
@click.option("--name", help="Name of the upstream. Default: codex- and the account's email.")
@click.pass_context
def import_(context: click.Context, file: BinaryIO, name: str | None) -> None:
    """Make an upstream of a sign-in of the CLI.

    FILE is its auth.json; - reads standard input. An account that is there already gets the new tokens and is active
    again.
    """
    services = cli.services(context)
    try:
        auth_json = jsontext.loads(file.read())
    except ValueError:  # its message may quote the file, and with it a token
        raise click.ClickException("The file is not JSON.") from None
    try:
        upstream = import_account(services, auth_json, name)
    except ValueError as error:
        raise click.ClickException(f"This is no usable auth.json: {error}.") from None
    _show(services, upstream)


def _show(services: Services, upstream: Upstream) -> None:
    account = accounts.find(services, upstream.id)
    click.echo(f"{upstream.name}: {account.email}, plan {account.plan}, account {account.account_id}")


@codex.command(name="login")
@click.option("--name", help="Name of the upstream. Default: codex- and the account's email.")
@click.option("--paste", is_flag=True, help="Ask for the URL that the browser ends on, for a browser elsewhere.")
@click.option("--no-browser", is_flag=True, help="Do not open the browser of this machine.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=login.PORTS[0],
    show_default=True,
    help=f"Where the browser comes back to. The sign-in page accepts {' and '.join(map(str, login.PORTS))}.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86400, min_open=True),
    default=600,
    show_default=True,
    help="Seconds to wait for the browser.",
)
@click.pass_context
def login_(context: click.Context, name: str | None, paste: bool, no_browser: bool, port: int, timeout: float) -> None:
    """Sign in with a browser, and make an upstream of the account.

    The browser is opened where there is one: on a desktop, and not in a session from another machine.
    An account that is there already gets the new tokens and is active again.
    """
    services = cli.services(context)
    try:
        sign_in = login.begin(services, port)
        opens = not no_browser and browser.is_here(os.environ)
        code = _pasted_code(sign_in) if paste else _received_code(sign_in, port, timeout, opens)
        upstream = login.finish(services, sign_in, code, name)
    except login.SignInFailed as failure:
        raise click.ClickException(f"The sign-in failed: {failure}") from None
    _show(services, upstream)


def _pasted_code(sign_in: login.SignIn) -> str:
    click.echo(f"Open this page in a browser and sign in:\n\n{sign_in.url}\n")
    click.echo(f"It ends on a page that does not load, {sign_in.redirect_uri}?... Copy its whole URL.")
    try:
        return login.code(click.prompt("URL"), sign_in.state)
    except ValueError as error:
        raise click.ClickException(f"{str(error).capitalize()}.") from None


def _received_code(sign_in: login.SignIn, port: int, timeout: float, opens: bool) -> str:
    def accepts(url: str) -> bool:
        try:
            login.code(url, sign_in.state)
        except login.SignInFailed:
            pass  # it is the answer all the same
        except ValueError:
            return False
        return True

    try:
        with Callback(port, login.PATH) as callback:
            hint = "The browser opens this page; if it does not, open it" if opens else "Open this page"
            click.echo(f"{hint} in a browser of this machine and sign in:\n\n{sign_in.url}\n")
            if opens:
                browser.show(sign_in.url)
            click.echo("Waiting for the browser. If it runs on another machine, stop this and use --paste.")
            return login.code(callback.wait(accepts, timeout), sign_in.state)
    except OSError as error:  # TimeoutError is one, too
        if isinstance(error, TimeoutError):
            raise click.ClickException("The browser did not come back in time.") from None
        raise click.ClickException(
            f"Port {port} of this machine cannot be used ({error.strerror}). Try --port or --paste."
        ) from None


@codex.command(name="logout")
@click.argument("name")
@click.pass_context
def logout(context: click.Context, name: str) -> None:
    """Forget the tokens of the upstream NAME.

    The upstream stays, for signing in again; `floway upstreams remove NAME` removes it with all that belongs to it.
    """
    services = cli.services(context)
    mine = [row for row in upstreams.all_rows(services.database) if row.kind == KIND]
    upstream = next((row for row in mine if row.name == name), None)
    if upstream is None:
        raise click.ClickException(f"There is no Codex upstream named {name!r}.")
    accounts.sign_out(services, upstream.id)
    click.echo(f"{name}: signed out")


@codex.command(name="status", cls=cli.ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="For programs; times are Unix seconds.")
@click.pass_context
def status_(context: click.Context, as_json: bool) -> None:
    """Show accounts, plans, token expiry, health and quota."""
    found = status.read(cli.services(context))
    if as_json:
        click.echo(json.dumps([status.as_json(one) for one in found], indent=2))
    elif not found:
        click.echo("There is no Codex account. `floway codex login` or `floway codex import FILE` adds one.")
    else:
        click.echo("\n\n".join(status.as_text(one, time.time()) for one in found))


def _bind(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, int]:
    try:
        host, _, port = address(value).rpartition(":")
        return host.strip("[]"), int(port)
    except ValueError:
        raise click.BadParameter("HOST:PORT is expected") from None


@codex.command()
@click.option("--bind", default="127.0.0.1:8790", show_default=True, callback=_bind, help="HOST:PORT to listen on.")
@click.option("--auth-file", type=click.Path(dir_okay=False, path_type=Path), help="Write an auth.json to import here.")
def simulate(bind: tuple[str, int], auth_file: Path | None) -> None:
    """Run a stand-in of the Codex backend, and print what makes Floway use it.

    It is for trying things out without an account.
    """
    from floway_codex.simulator.server import serve  # nothing else here needs it

    try:
        serve(*bind, auth_file)
    except OSError as error:
        if error.filename is not None:
            raise click.ClickException(f"{error.filename} cannot be written: {error.strerror}.") from None
        host, port = bind
        raise click.ClickException(
            f"The simulator cannot listen on {host}:{port}: {error.strerror or error}. Try --bind 127.0.0.1:PORT."
        ) from None


@codex.command()
def demo() -> None:
    """Show the main job end to end against the stand-in. Needs no account and leaves nothing behind."""
    from floway_codex.commands.demo import run  # nothing else here needs it

    run()
