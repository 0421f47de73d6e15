"""``floway gemini aliases``: models for the names that Gemini CLI requests by itself, whatever its user has chosen."""

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
"""Models that answer the user, and that check whether the model runs in circles."""
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
"""Models that choose a model, search the web, fetch pages, sum up and mend edits. Source: Gemini CLI 0.61.0."""


@click.group("gemini")
def group() -> None:
    """Clients of the generateContent API."""


@group.command("aliases")
@click.argument("model")
@click.argument("fast_model", required=False)
@click.pass_context
def set_aliases(context: click.Context, model: str, fast_model: str | None) -> None:
    """Let MODEL serve all models that Gemini CLI names by itself.

    It requests them whatever its user has chosen: to choose a model, to search the web, to sum up. FAST_MODEL serves
    the small ones. An alias hides a model of the same name.
    """
    database = services(context).database
    for names, target in ((STRONG, model), (FAST, fast_model or model)):
        for name in names:
            if name == target:
                continue
            aliases.put(database, name, [(target, None)])
            click.echo(f"{name!r} stands for {target}.", err=True)
