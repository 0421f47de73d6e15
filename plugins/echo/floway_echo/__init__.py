"""A provider without an upstream server: it answers with the last text of the input. Copy it to start your own."""

import json
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import click

from floway_core.cli import services as services_of
from floway_core.contexts import ResponsesRequestContext, Services, Upstream
from floway_core.hookspecs import hookimpl
from floway_core.provider import IterableBody, Model, Provider, UpstreamResponse
from floway_core.storage import upstreams

__version__ = "0.1.0"


class Echo(Provider):
    """Answers with one complete response; the gateway turns it into events for a client that streams."""

    kind = "echo"

    def list_models(self, upstream: Upstream) -> Sequence[Model]:
        return [Model(id="echo", owned_by="floway")]

    def send(self, ctx: ResponsesRequestContext) -> UpstreamResponse:
        # Only the input has an effect here. The header x-floway-ignored of the answer lists the other fields.
        ctx.ignore(*ctx.body)
        text = f"You said: {last_text(ctx.body['input'])}"
        message = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }
        response = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "completed",
            "model": ctx.body["model"],
            "output": [message],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
        content = json.dumps(response).encode()
        return UpstreamResponse(200, [("content-type", "application/json")], IterableBody([content]))


def last_text(value: Any) -> str:
    """Return the last text of an input.

    :param value: a string, an item, or a list of items or content parts, as a client sends them.
    """
    while isinstance(value, list | dict):
        if isinstance(value, list):
            value = value[-1] if value else ""
        else:
            value = value.get("content") or value.get("text") or value.get("output") or ""
    return str(value)


@hookimpl
def register_providers(services: Services) -> Iterable[Provider]:
    return [Echo()]


@hookimpl
def register_commands(cli: click.Group) -> None:
    @cli.group("echo")
    def group() -> None:
        """The echo provider."""

    @group.command()
    @click.argument("name", default="echo")
    @click.pass_context
    def add(context: click.Context, name: str) -> None:
        """Add an upstream that echoes."""
        upstreams.add(services_of(context).database, Echo.kind, name)
        click.echo(f"Added the upstream {name!r}.", err=True)
