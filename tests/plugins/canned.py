"""A second provider for tests: answers by itself, with the plainest of streams."""

import json
import os

import click

from floway_core.cli import services as services_of
from floway_core.hookspecs import hookimpl
from floway_core.provider import IterableBody, Model, Provider, UpstreamResponse
from floway_core.storage import upstreams


class Canned(Provider):
    kind = "canned"

    def list_models(self, upstream):
        return [Model("canned", "canned", details={"slug": "canned", "native": True}), Model("shared", "canned")]

    def send(self, ctx):
        if ctx.attempt.request.headers.get("x-test-ignore") == "everything":
            ctx.ignore(*ctx.body)
        response = {"id": "resp_canned", "object": "response", "status": "completed", "model": "canned", "output": []}
        data = json.dumps({"type": "response.completed", "sequence_number": 0, "response": response})
        event = f"event: response.completed\ndata: {data}\n\n".encode()
        return UpstreamResponse(200, [("content-type", "text/event-stream")], IterableBody([event]))


@hookimpl
def register_providers(services):
    return [Canned()]


@hookimpl
def register_commands(cli):
    @cli.command("add-canned")
    @click.argument("name")
    @click.pass_context
    def add(context, name):
        """Add an upstream."""
        upstreams.add(services_of(context).database, Canned.kind, name)


@hookimpl
def on_attempt_start(ctx):
    journal("on_attempt_start", ctx)


@hookimpl
def prepare_responses_request(ctx):
    journal("prepare_responses_request", ctx.attempt)


def journal(hook, attempt):
    """Append one line to the test's journal."""
    with open(os.environ["TEST_JOURNAL"], "a") as out:
        out.write(json.dumps({"plugin": "canned", "hook": hook, "request": attempt.request.id}) + "\n")
