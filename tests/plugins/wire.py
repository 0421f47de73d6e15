"""A provider for tests: sends the client's body to the upstream that the test names, and does what headers ask."""

import json
import os

import click

from floway_core.cli import services as services_of
from floway_core.errors import GatewayError
from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext
from floway_core.provider import Model, Provider
from floway_core.settings import Setting, count, origin_url, text
from floway_core.storage import upstreams
from floway_core.upstream import HttpClient


class Wire(Provider):
    kind = "wire"
    underscore_headers = ("x_test_trace", "content_length")

    def __init__(self, services):
        self._client = HttpClient(services.settings)
        self._settings = services.settings.plugin

    def list_models(self, upstream):
        if upstream.name == "moody":
            raise GatewayError(502, "It gives no list.")
        return [Model(name, "wire", 1700000000) for name in self._settings["wire_models"].split(",")]

    def send(self, ctx):
        url = ctx.attempt.request.headers.get("x-test-upstream", self._settings["wire_url"])
        return self._client.stream(ctx, "POST", f"{url}/answers", ctx.headers, jsontext.dumps(ctx.body))

    def handle_error_response(self, ctx, refusal):
        often = ctx.attempt.request.headers.get("x-test-recover") == "always"
        return refusal.status == 401 and (often or ctx.dispatch == 1)


@hookimpl
def register_settings():
    return [
        Setting("wire_url", origin_url, "http://127.0.0.1:9", "Where to send requests."),
        Setting("wire_models", text, "model-1,model-2,org/model-3,shared", "Names of models."),
        Setting("wire_token", text, None, "Nothing.", secret=True),
        Setting("wire_limit", count, "5", "Nothing."),
    ]


@hookimpl
def register_providers(services):
    return [Wire(services)]


@hookimpl
def register_commands(cli):
    @cli.command("add-wire")
    @click.argument("name")
    @click.pass_context
    def add(context, name):
        """Add an upstream."""
        upstreams.add(services_of(context).database, Wire.kind, name)


@hookimpl
def on_attempt_start(ctx):
    journal("on_attempt_start", ctx)
    fail("on_attempt_start", ctx.request)
    ctx.provider_state = f"state of {ctx.id}"


@hookimpl
def prepare_responses_request(ctx):
    ctx.headers.update({k: v for k, v in ctx.attempt.request.headers.items() if "_" in k})
    journal("prepare_responses_request", ctx.attempt, dispatch=ctx.dispatch)
    fail("prepare_responses_request", ctx.attempt.request)
    ctx.headers["Content-Type"] = "application/json"
    ctx.headers["x-State"] = ctx.attempt.provider_state
    ctx.headers.update({k: v for k, v in ctx.attempt.request.headers.items() if k.startswith("x-test-")})
    ctx.ignore(*ctx.attempt.request.headers.get("x-test-ignore", "").split())
    if "x-test-note" in ctx.attempt.request.headers:  # would pile up if a second dispatch saw what the first changed
        ctx.body["input"][0]["noted"] = ctx.body["input"][0].get("noted", 0) + 1
        ctx.body["input"].append({"type": "note"})


def fail(hook, request):
    """Raise what the client's header ``x-test-raise`` asks for: ``HOOK refusal`` or ``HOOK fault``."""
    asked = request.headers.get("x-test-raise")
    if asked == f"{hook} refusal":
        raise GatewayError(418, "The owner refuses.", code="owner_refuses", param="tea", headers={"x-owner": "wire"})
    if asked == f"{hook} fault":
        raise RuntimeError("a detail that is nobody's business")


def journal(hook, attempt, **more):
    """Append one line to the test's journal."""
    line = {"plugin": "wire", "hook": hook, "request": attempt.request.id, "attempt": attempt.id}
    line |= {"upstream": attempt.upstream.name, "kind": attempt.upstream.kind, "model": attempt.model, **more}
    with open(os.environ["TEST_JOURNAL"], "a") as out:
        out.write(json.dumps(line) + "\n")
