"""A provider without an upstream: it answers with what was said last. Copy it to start your own."""

import json
import uuid

import click

from floway_core.cli import services as services_of
from floway_core.hookspecs import hookimpl
from floway_core.protocol import sse
from floway_core.provider import GeneratedBody, Model, Provider, UpstreamReply
from floway_core.store import upstreams


class Echo(Provider):
    kind = "echo"

    def list_models(self, upstream):
        return [Model(id="echo", owned_by="floway")]

    def send(self, ctx):
        answer = f"You said: {last_text(ctx.body['input'])}"
        return UpstreamReply(200, [("content-type", "text/event-stream")], GeneratedBody(events(ctx.body, answer)))


def last_text(given):
    """The last text of the input, which is a string or a list of items."""
    while isinstance(given, list):
        given = next((part["content" if "content" in part else "text"] for part in reversed(given)
                      if "content" in part or "text" in part), "")
    return given


def events(body, answer):
    """The events of a response whose only item is a message."""
    number = iter(range(10**6))

    def event(kind, **content):
        return sse.encode(kind, json.dumps({"type": kind, "sequence_number": next(number), **content}).encode())

    response = {"id": f"resp_{uuid.uuid4().hex}", "object": "response", "created_at": 0, "status": "in_progress",
                "model": body["model"], "output": [], "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    item = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "status": "in_progress"}
    part = {"type": "output_text", "text": answer, "annotations": []}
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    yield event("response.created", response=response)
    yield event("response.output_item.added", output_index=0, item={**item, "content": []})
    yield event("response.content_part.added", **place, part={**part, "text": ""})
    for word in answer.split(" "):
        yield event("response.output_text.delta", **place, delta=word + " ", logprobs=[])
    yield event("response.output_text.done", **place, text=answer, logprobs=[])
    yield event("response.content_part.done", **place, part=part)
    item = {**item, "status": "completed", "content": [part]}
    yield event("response.output_item.done", output_index=0, item=item)
    yield event("response.completed", response={**response, "status": "completed", "output": [item], "usage": USAGE})


USAGE = {"input_tokens": 0, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 0,
         "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 0}


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
