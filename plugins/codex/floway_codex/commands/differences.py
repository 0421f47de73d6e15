"""``floway codex differences``: how a request of the CLI through Floway differs from a direct one.

The tests replay recordings of the CLI through a gateway, and compare the result with this table.
"""

from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Difference:
    """One difference, and its reason."""

    what: str
    """A field of the request."""
    why: str


FIELDS = (
    Difference("header authorization", "the token of the operator's account"),
    Difference("header chatgpt-account-id", "the operator's account"),
    Difference("header host", "where the backend is, by the settings"),
    Difference("header content-length", "length of the body after compression"),
    Difference("header cookie", "Cloudflare's cookies are not stored: they belong to one client, a gateway has many"),
    Difference(
        "input[].internal_chat_message_metadata_passthrough",
        "the CLI sends it to providers named OpenAI only; if present, it is passed on",
    ),
)
"""Fields of requests that differ. All others are equal and in the same order, except the keys of ``client_metadata``:
the CLI sends them in a random order."""

BEHAVIOUR = (
    Difference("HTTP version", "HTTP/1.1; the CLI speaks HTTP/2 where it is offered"),
    Difference("websocket", "none; the CLI uses one where it can, with the same content"),
    Difference("401", "the token is renewed at once; the CLI sends the refused one a second time first"),
    Difference("POST /responses/compact", "sent as a turn that ends with a compaction_trigger, as newer versions do"),
)


@click.command()
def differences() -> None:
    """Show what Floway changes in requests of the CLI."""
    click.echo(markdown_table())


def markdown_table() -> str:
    """The differences as a Markdown table."""
    rows = [f"| {one.what} | {one.why} |" for one in (*FIELDS, *BEHAVIOUR)]
    return "\n".join(["| what | why |", "| --- | --- |", *rows])
