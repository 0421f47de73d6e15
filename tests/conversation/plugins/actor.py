"""Two providers for tests of the store. Each request says in its headers what they are to answer.

``x-test-output``: the items of the answer, as JSON. Without it, one message with an id of its own.
``x-test-answer``: ``empty`` (the terminal event leaves the output out), ``incomplete``, ``failed``, ``cut``, or
``faulty`` (reading the answer of ``x-test-upstream`` raises an exception that no body may raise).
``x-test-upstream``: the URL of an upstream that answers instead.
``x-test-refuse``: ``{"name of an upstream": status}``.
``x-test-claim``: ``early`` (the place among the children is claimed when the attempt starts) or ``late`` (the same, and
the response that is continued has been deleted by then).
``x-test-commit``: what ``on_snapshot_commit`` does beside counting.
Every dispatch and every commit is written down in the test's journal.
"""

import json
import os
import uuid

from floway_core.conversation import load, retention
from floway_core.errors import GatewayError, UpstreamUnreachable
from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext
from floway_core.provider import IterableBody, Model, Provider, UpstreamResponse
from floway_core.testing import events
from floway_core.upstream import HttpClient

MODELS = {"first": ["model-1", "both"], "second": ["model-2", "both"], "third": ["model-3", "both"]}
STREAM = [("content-type", "text/event-stream")]


class Actor(Provider):
    """Compacts by itself."""

    kind = "actor"

    def __init__(self, services):
        self._client = HttpClient(services.settings)
        self._database = services.database

    def delete(self, api_key_id, response_id):
        retention.delete_response(self._database, load.find_snapshot(self._database, api_key_id, response_id, 0))

    def supports_compaction(self, upstream):
        return True

    def list_models(self, upstream):
        return [Model(name, self.kind) for name in MODELS[upstream.name]]

    def send(self, ctx):
        asked, name = ctx.attempt.request.headers, ctx.attempt.upstream.name
        note("send", ctx.attempt, upstream=name, input=ctx.body["input"], fields=sorted(ctx.body))
        status = json.loads(asked.get("x-test-refuse", "{}")).get(name, 200)
        if status != 200:
            ctx.body["input"].clear()  # what one attempt does to its copy must not reach the next
        if status == "network":
            raise UpstreamUnreachable("Nobody is there.")
        if status != 200:
            return UpstreamResponse(status, [("content-type", "application/json")], IterableBody([b'{"error":{}}']))
        if "x-test-upstream" in asked:
            url, body = asked["x-test-upstream"], jsontext.dumps(ctx.body)
            response = self._client.stream(ctx, "POST", url, ctx.headers, body)
            if asked.get("x-test-answer") == "faulty":
                response.body.read = lambda timeout, client=None: 1 / 0
            return response
        return UpstreamResponse(200, STREAM, IterableBody(answer(asked)))


class Understudy(Actor):
    """Cannot compact."""

    kind = "understudy"

    def supports_compaction(self, upstream):
        return False


def answer(asked):
    """The events of an answer."""
    how = asked.get("x-test-answer")
    if how == "failed":
        return events.failed_stream("server_error", "No.")
    output = json.loads(asked["x-test-output"]) if "x-test-output" in asked else [message()]
    stream = events.items_stream(output, empty_output=how == "empty")
    if how == "cut":
        return stream[:-1]
    if how == "incomplete":
        return [*stream[:-1], stream[-1].replace(b"completed", b"incomplete")]
    return stream


def message():
    identity = uuid.uuid4().hex
    return events.message_item(f"Answer {identity}", id=f"msg_{identity}")


@hookimpl
def register_providers(services):
    return [Actor(services), Understudy(services)]


@hookimpl
def on_attempt_start(ctx):
    how = ctx.request.headers.get("x-test-claim")
    if how == "late" and ctx.previous:  # another request has deleted it by then
        ctx.provider.delete(ctx.request.api_key.id, ctx.previous.response_id)
    if how and ctx.previous:
        ctx.provider_state = ctx.previous.ordinal()


@hookimpl
def on_snapshot_commit(ctx):
    previous, asked = ctx.attempt.previous, ctx.attempt.request.headers
    note(
        "on_snapshot_commit",
        ctx.attempt,
        mode=ctx.mode,
        response=ctx.response_id,
        previous=previous and {"id": previous.response_id, "metadata": previous.metadata},
        inherited=dict(ctx.metadata),
        ordinal=previous and previous.ordinal(),
        claimed=ctx.attempt.provider_state,
    )
    ctx.metadata["turns"] = ctx.metadata.get("turns", 0) + 1
    how = asked.get("x-test-commit", "")
    if how.startswith("note "):
        ctx.metadata["note"] = json.loads(how.removeprefix("note "))
    elif how:
        ctx.metadata["leaked"] = True
    if how == "refuse":
        raise GatewayError(418, "The owner refuses.", code="owner_refuses")
    if how == "fault":
        raise RuntimeError("a detail that is nobody's business")
    if how == "unjson":
        ctx.metadata["unjson"] = {1, 2}
    if how == "list":
        ctx.metadata = ["no", "object"]


def note(event, attempt, **more):
    """Append one line to the test's journal."""
    line = json.dumps({"event": event, "request": attempt.request.id, **more}) + "\n"
    journal = os.open(os.environ["TEST_JOURNAL"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(journal, line.encode())  # in one piece: other threads and servers write, too
    finally:
        os.close(journal)
