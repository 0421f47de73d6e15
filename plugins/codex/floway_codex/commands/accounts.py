"""The group ``floway codex``, and its commands for accounts."""

import json
import os
import time
from typing import BinaryIO

import click

from floway_codex.account import accounts, browser, login, status
from floway_codex.account.auth_file import KIND, import_account
from floway_codex.account.login_callback import CallbackServer
from floway_codex.provider import CodexProvider
from floway_core import cli
from floway_core.contexts import Services, Upstream
from floway_core.protocol import jsontext
from floway_core.storage import upstreams


@click.group()
def codex() -> None:
    """Manage Codex accounts."""


@codex.command(name="import")
@click.argument("file", type=click.File("rb"))
@click.option("--name", help="Name of the upstream. Default: codex- and the account's email.")
@click.pass_context
def import_(context: click.Context, file: BinaryIO, name: str | None) -> None:
    """Import a sign-in of the CLI as an upstream.

    FILE is its auth.json; - reads standard input. An existing account gets the new tokens and becomes active.
    """
    services = cli.services(context)
    try:
        auth_json = jsontext.loads(file.read())
    except ValueError:  # the message may quote the file, and so a token
        raise click.ClickException("The file is not JSON.") from None
    try:
        upstream = import_account(services, auth_json, name)
    except ValueError as error:
        raise click.ClickException(f"This is no usable auth.json: {error}.") from None
    _show(services, upstream)


def _show(services: Services, upstream: Upstream) -> None:
    account = accounts.find_account(services, upstream.id)
    click.echo(f"{upstream.name}: {account.email}, plan {account.plan}, account {account.account_id}")


@codex.command(name="login")
@click.option("--name", help="Name of the upstream. Default: codex- and the account's email.")
@click.option("--paste", is_flag=True, help="Ask for the URL that the browser ends on, for a browser elsewhere.")
@click.option("--no-browser", is_flag=True, help="Do not open the browser of this machine.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=login.CALLBACK_PORTS[0],
    show_default=True,
    help=f"Where the browser comes back to. The sign-in page accepts {' and '.join(map(str, login.CALLBACK_PORTS))}.",
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
    """Sign in with a browser, and add the account as an upstream.

    The browser is opened on a desktop, but not in a session from another machine.
    An existing account gets the new tokens and becomes active.
    """
    services = cli.services(context)
    try:
        sign_in = login.start_sign_in(services, port)
        opens = not no_browser and browser.is_available(os.environ)
        code = _pasted_code(sign_in) if paste else _received_code(sign_in, port, timeout, opens)
        upstream = login.finish_sign_in(services, sign_in, code, name)
    except login.SignInFailed as failure:
        raise click.ClickException(f"The sign-in failed: {failure}") from None
    _show(services, upstream)


def _pasted_code(sign_in: login.SignIn) -> str:
    click.echo(f"Open this page in a browser and sign in:\n\n{sign_in.url}\n")
    click.echo(f"It ends on a page that does not load, {sign_in.redirect_uri}?... Copy its whole URL.")
    try:
        return login.extract_code(click.prompt("URL"), sign_in.state)
    except ValueError as error:
        raise click.ClickException(f"{str(error).capitalize()}.") from None


def _received_code(sign_in: login.SignIn, port: int, timeout: float, opens: bool) -> str:
    def accepts(url: str) -> bool:
        try:
            login.extract_code(url, sign_in.state)
        except login.SignInFailed:
            pass  # the URL belongs to this sign-in, even if it failed
        except ValueError:
            return False
        return True

    try:
        with CallbackServer(port, login.CALLBACK_PATH) as callback:
            hint = "The browser opens this page; if it does not, open it" if opens else "Open this page"
            click.echo(f"{hint} in a browser of this machine and sign in:\n\n{sign_in.url}\n")
            if opens:
                browser.open_page(sign_in.url)
            click.echo("Waiting for the browser. If it runs on another machine, stop this and use --paste.")
            return login.extract_code(callback.wait(accepts, timeout), sign_in.state)
    except RuntimeError as error:  # no thread can be had
        raise click.ClickException(f"The browser cannot be waited for ({error}). Try --paste.") from None
    except OSError as error:  # includes TimeoutError
        if isinstance(error, TimeoutError):
            raise click.ClickException("The browser did not come back in time.") from None
        raise click.ClickException(
            f"Port {port} of this machine cannot be used ({error.strerror}). Try --port or --paste."
        ) from None


@codex.command(name="logout")
@click.argument("name")
@click.pass_context
def logout(context: click.Context, name: str) -> None:
    """Delete the tokens of the upstream NAME.

    The upstream stays for the next sign-in; `floway upstreams remove NAME` removes it with all its data.
    """
    services = cli.services(context)
    codex_rows = [row for row in upstreams.all_rows(services.database) if row.kind == KIND]
    upstream = next((row for row in codex_rows if row.name == name), None)
    if upstream is None:
        raise click.ClickException(f"There is no Codex upstream named {name!r}.")
    accounts.sign_out(services, upstream.id)
    click.echo(f"{name}: signed out")


@codex.command(name="status", cls=cli.ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="For programs; times are Unix seconds.")
@click.option("--offline", is_flag=True, help="Show the last known quota, and do not ask the backend.")
@click.pass_context
def status_(context: click.Context, as_json: bool, offline: bool) -> None:
    """Show accounts, plans, token expiry, health and quota.

    Asks the backend for the quota of accounts whose access token is valid.
    """
    services = cli.services(context)
    statuses = status.read_statuses(services)
    if statuses and not offline:
        provider = CodexProvider(services)
        for entry in statuses:
            provider.refresh_usage(entry.account.upstream_id)
        statuses = status.read_statuses(services)
    if as_json:
        click.echo(json.dumps([status.to_json(entry) for entry in statuses], indent=2))
    elif not statuses:
        click.echo("There is no Codex account. `floway codex login` or `floway codex import FILE` adds one.")
    else:
        click.echo("\n\n".join(status.to_text(entry, time.time()) for entry in statuses))
