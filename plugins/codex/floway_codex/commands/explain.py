"""``floway codex explain``: where the identity of a stored response comes from."""

import json

import click

from floway_codex.identity import snapshot
from floway_core import cli
from floway_core.storage.db import select

FIND = "SELECT metadata_json FROM responses_snapshots WHERE response_id = ? AND deleted_at IS NULL"


@click.command(cls=cli.ReadOnlyCommand)
@click.argument("response_id")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def explain(context: click.Context, response_id: str, as_json: bool) -> None:
    """Show as whom a response was asked for.

    For the stored response RESPONSE_ID, with the rule that each id comes from.
    """
    rows = select(cli.services(context).database, FIND, response_id)
    if not rows:
        raise click.ClickException(f"There is no stored response {response_id}.")
    found = snapshot.read(json.loads(rows[0][0]))
    if found is None:
        raise click.ClickException(f"Response {response_id} does not come from a Codex upstream.")
    explained = {name: {"value": value, "from": found.rules.get(name, "")} for name, value in ids(found).items()}
    next_window = f"{found.thread}:{found.window}"
    if as_json:
        click.echo(json.dumps({"ids": explained, "next_window": next_window, "turn_state": bool(found.turn_state)}))
        return
    for name, of in explained.items():
        click.echo(f"{name.replace('_', ' '):15} {of['value']:45} {of['from']}")
    click.echo(f"{'next window':15} {next_window:45} {'compacted' if next_window != found.asked_in else 'the same'}")
    click.echo(f"{'turn state':15} {'kept' if found.turn_state else 'none'}")


def ids(found: snapshot.Kept) -> dict[str, str]:
    """The ids of a response, as it was asked for."""
    return {
        "session": found.session,
        "thread": found.thread,
        "client_request": found.client_request,
        "window": found.asked_in,
        "turn": found.turn,
        "installation": found.installation,
    }
