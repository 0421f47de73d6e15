"""An observer for tests: writes down every call of a lifecycle hook. Its name sorts before those of the providers."""

import json
import os

from floway_core.hookspecs import hookimpl


@hookimpl
def on_attempt_start(ctx):
    note("on_attempt_start", ctx)


@hookimpl
def prepare_responses_request(ctx):
    note("prepare_responses_request", ctx.attempt, dispatch=ctx.dispatch, headers=ctx.headers, body=ctx.body)


def note(hook, attempt, **more):
    """Append one line to the test's journal, then raise if the client's header ``x-test-observer`` asks for it."""
    line = {"plugin": "auditor", "hook": hook, "request": attempt.request.id, "attempt": attempt.id}
    line |= {"upstream": attempt.upstream.name, "state": attempt.provider_state, "key": attempt.request.api_key.name}
    line |= {"client_headers": dict(attempt.request.headers), **more}
    with open(os.environ["TEST_JOURNAL"], "a") as out:
        out.write(json.dumps(line) + "\n")
    if attempt.request.headers.get("x-test-observer") == "raise":
        raise RuntimeError("the observer stumbles")
