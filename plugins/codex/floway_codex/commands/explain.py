"""``floway codex explain``: the identity of a stored response, and the source of each id and field."""

import json

import click

from floway_codex.identity import snapshot
from floway_codex.wire.profile import load_profiles
from floway_codex.wire.sources import FieldSource, describe_fields
from floway_core import cli
from floway_core.storage.db import select

FIND_METADATA = "SELECT metadata_json FROM responses_snapshots WHERE response_id = ? AND deleted_at IS NULL"


@click.command(cls=cli.ReadOnlyCommand)
@click.argument("response_id")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def explain(context: click.Context, response_id: str, as_json: bool) -> None:
    """Show the identity of a stored response.

    Lists the ids and fields of the request for RESPONSE_ID, and where each of them came from.
    """
    services = cli.services(context)
    rows = select(services.database, FIND_METADATA, response_id)
    if not rows:
        raise click.ClickException(f"There is no stored response {response_id}.")
    identity = snapshot.read_identity(json.loads(rows[0][0]))
    if identity is None:
        raise click.ClickException(f"Response {response_id} does not come from a Codex upstream.")
    ids = {
        name: {"value": value, "from": identity.rules.get(name, "")} for name, value in identity_ids(identity).items()
    }
    next_window = f"{identity.thread}:{identity.window}"
    fields = _describe_fields(identity, services.settings.plugin["codex_profiles"])
    if as_json:
        shown = {"ids": ids, "next_window": next_window, "turn_state": bool(identity.turn_state)}
        sent_as = {"profile": identity.profile, "client": identity.client, "transport": identity.transport}
        click.echo(json.dumps({**shown, **sent_as, "fields": [vars(source) for source in fields]}))
        return
    for name, entry in ids.items():
        click.echo(f"{name.replace('_', ' '):15} {entry['value']:45} {entry['from']}")
    click.echo(f"{'next window':15} {next_window:45} {'compacted' if next_window != identity.asked_in else 'the same'}")
    click.echo(f"{'turn state':15} {'kept' if identity.turn_state else 'none'}")
    if identity.profile:
        client = f"the CLI {identity.client}" if identity.client else "another client, sent as the CLI"
        click.echo(f"{'client':15} {client}")
        click.echo(f"{'transport':15} {identity.transport or 'unknown'}")
        click.echo(f"{'profile':15} {identity.profile}\n")
    for source in fields:
        click.echo(f"{source.section:15} {source.name:45} {source.source}")


def _describe_fields(identity: snapshot.StoredIdentity, folder: str) -> list[FieldSource]:
    """The fields of a request; none if its profile is unknown."""
    profile = load_profiles(folder).get(identity.profile)
    return (
        [*describe_fields(profile, identity.rules, is_cli=bool(identity.client), transport=identity.transport)]
        if profile
        else []
    )


def identity_ids(identity: snapshot.StoredIdentity) -> dict[str, str]:
    """The ids of the request for a response."""
    return {
        "session": identity.session,
        "thread": identity.thread,
        "client_request": identity.client_request,
        "window": identity.asked_in,
        "turn": identity.turn,
        "installation": identity.installation,
    }
