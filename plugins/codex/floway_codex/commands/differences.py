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
    Difference(
        "websocket: warm-up",
        "with the settings of the thread's first turn; the TUI warms up title threads before it knows these",
    ),
    Difference("websocket: refused warm-up", "the CLI then appends a configuration_update to the input"),
    Difference("websocket: steering", "no response.interrupt: the connection is dropped, as the CLI does on Escape"),
    Difference("401", "the token is renewed at once; the CLI sends the refused one a second time first"),
    Difference("POST /responses/compact", "sent as a turn that ends with a compaction_trigger, as newer versions do"),
)

TOWARDS_GATEWAYS = (
    Difference("CLI: GET /models", "asked for only with a ChatGPT login; without one the CLI has its built-in list"),
    Difference(
        "CLI: tools",
        "without a ChatGPT login some are left out: image_generation and those for MCP resources in 0.142",
    ),
    Difference(
        "CLI: compaction",
        "a plain request for a summary, without the turn state, unless the provider is named OpenAI",
    ),
    Difference(
        "CLI: input[] configuration_update",
        "0.169 and later append it if a provider of their own is named OpenAI; it is passed on",
    ),
)
"""What the CLI itself does differently because it speaks to a gateway."""


@click.command()
def differences() -> None:
    """Show how requests through Floway differ from direct ones.

    The requests are those of the CLI.
    """
    click.echo(markdown_table())


def markdown_table() -> str:
    """The differences as a Markdown table."""
    rows = [f"| {difference.what} | {difference.why} |" for difference in (*FIELDS, *BEHAVIOUR, *TOWARDS_GATEWAYS)]
    return "\n".join(["| what | why |", "| --- | --- |", *rows])
