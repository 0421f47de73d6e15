"""Results as core reports them, for tests without a server."""

from floway_otel.settings import CONTENT, MAX_CONTENT_BYTES, PROPAGATE_TO

from floway_core.contexts import Upstream
from floway_core.protocol.usage import Tokens
from floway_core.results import AttemptResult, EndedAttempt, RequestResult

SETTINGS = {CONTENT: "off", MAX_CONTENT_BYTES: 1000, PROPAGATE_TO: frozenset()}
UPSTREAM = Upstream("u1", "openai", "first", True, 1)


def attempt(request_id="r1", number=1, server="https://api.openai.com", **changes):
    """An attempt that has ended, and its result."""
    ctx = EndedAttempt(
        f"{request_id}.{number}", request_id, "test", "responses", "model-1", "model-1", UPSTREAM, server
    )
    values = {
        "outcome": "completed",
        "status": 200,
        "error": None,
        "tokens": Tokens(700, 300, 50, 20),
        "tier": "default",
        "seconds": 2.5,
        "first_byte_seconds": 0.5,
        "dispatches": 1,
        "started_at": 1_800_000_000.25,
        "dispatch_seconds": [0.125],
        "commit_seconds": 2.25,
        "response_id": "resp_1",
        "response_model": "model-1",
        "output_types": ["reasoning", "message"],
    }
    return ctx, AttemptResult(**{**values, **changes})


def request(request_id="r1", **changes):
    """The result of a request."""
    values = {
        "id": request_id,
        "method": "POST",
        "route": "/v1/responses",
        "dialect": "responses",
        "key": "test",
        "model": "model-1",
        "upstream": "first",
        "streamed": True,
        "status": 200,
        "outcome": "completed",
        "error": None,
        "tokens": Tokens(700, 300, 50, 20),
        "tier": "default",
        "seconds": 3.0,
        "first_byte_seconds": 0.75,
        "attempts": 1,
        "dispatches": 1,
        "started_at": 1_800_000_000.0,
        "conversation": "conversation-1",
    }
    return RequestResult(**{**values, **changes})
