"""A provider without an upstream: it answers with what was said last. Copy it to start your own."""

import json
import time
import uuid

import click

from floway_core.cli import services as services_of
from floway_core.hookspecs import hookimpl
from floway_core.provider import IterableBody, Model, Provider, UpstreamResponse
from floway_core.storage import upstreams


class Echo(Provider):
    """Answers in one piece; the gateway makes a stream of it for clients that want one."""

    kind = "echo"

    def list_models(self, upstream):
        return [Model(id="echo", owned_by="floway")]

    def send(self, ctx):
        ctx.ignore(*ctx.body)  # the answer's header x-floway-ignored lists what had no effect: here, all but the input
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


def last_text(given):
    """The last text in the input, which is a string, an item, or a list of items or content parts."""
    while isinstance(given, (list, dict)):
        if isinstance(given, list):
            given = given[-1] if given else ""
        else:
            given = given.get("content") or given.get("text") or given.get("output") or ""
    return given


@hookimpl
def register_providers(services):
    return [Echo()]


@hookimpl
def register_commands(cli):
    @cli.group("echo")
    def group():
        """The echo provider."""

    @group.command()
    @click.argument("name", default="echo")
    @click.pass_context
    def add(context, name):
        """Add an upstream that echoes."""
        upstreams.add(services_of(context).database, Echo.kind, name)
        click.echo(f"Added the upstream {name!r}.", err=True)
