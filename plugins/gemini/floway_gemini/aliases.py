"""``floway gemini aliases``: aliases for the models that Gemini CLI requests regardless of its user's choice."""

import click

from floway_core.cli import services
from floway_core.storage import aliases

STRONG = (
    "gemini-2.5-pro",
    "gemini-3-pro",
    "gemini-3-pro-preview",
    "gemini-3.1-pro",
    "gemini-3.1-pro-preview",
    "gemini-3.1-pro-preview-customtools",
)
"""Models that answer the user, or detect that the model repeats itself."""
FAST = (
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-3-flash",
    "gemini-3-flash-preview",
    "gemini-3.1-flash-lite",
    "gemini-3.1-flash-lite-preview",
    "gemini-3.5-flash",
    "gemini-3.5-flash-lite",
    "gemini-3.8-flash",
)
"""Models that choose a model, search the web, fetch pages, summarise and repair edits. Source: Gemini CLI 0.61.0."""


@click.group("gemini")
def group() -> None:
    """Clients of the generateContent API."""


@group.command("aliases")
@click.argument("model")
@click.argument("fast_model", required=False)
@click.pass_context
def set_aliases(context: click.Context, model: str, fast_model: str | None) -> None:
    """Let MODEL serve all models that Gemini CLI requests.

    Gemini CLI requests some models regardless of the user's choice: to choose a model, to search the web, to summarise.
    FAST_MODEL serves the small ones. An alias hides a model with the same name.
    """
    database = services(context).database
    for names, target in ((STRONG, model), (FAST, fast_model or model)):
        for name in names:
            if name == target:
                continue
            aliases.put(database, name, [(target, None)])
            click.echo(f"{name!r} is an alias for {target}.", err=True)
