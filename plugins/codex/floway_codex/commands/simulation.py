"""``floway codex simulate`` and ``floway codex demo``: for trying Floway without an account."""

from pathlib import Path

import click

from floway_core.settings import address


def _bind(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, int]:
    try:
        host, _, port = address(value).rpartition(":")
        return host.strip("[]"), int(port)
    except ValueError:
        raise click.BadParameter("HOST:PORT is expected") from None


@click.command()
@click.option("--bind", default="127.0.0.1:8790", show_default=True, callback=_bind, help="HOST:PORT to listen on.")
@click.option("--auth-file", type=click.Path(dir_okay=False, path_type=Path), help="Write an auth.json to import here.")
def simulate(bind: tuple[str, int], auth_file: Path | None) -> None:
    """Run a simulated Codex backend.

    It needs no account, and prints the commands that make Floway use it.
    """
    from floway_codex.simulator.server import serve  # only this command needs it

    try:
        serve(*bind, auth_file)
    except OSError as error:
        if error.filename is not None:
            raise click.ClickException(f"{error.filename} cannot be written: {error.strerror}.") from None
        host, port = bind
        raise click.ClickException(
            f"The simulator cannot listen on {host}:{port}: {error.strerror or error}. Try --bind 127.0.0.1:PORT."
        ) from None


@click.command()
def demo() -> None:
    """Show a conversation with a simulated backend.

    It runs through a gateway, needs no account, and leaves nothing behind.
    """
    from floway_codex.commands.demo import run  # only this command needs it

    run()
