"""Headers of requests and responses: those that are forwarded, and those that are removed."""

import hashlib

from floway_core.contexts import ClientRequest
from floway_openai import __version__

FORWARDED = ("openai-beta",)
"""Headers of the client that the upstream gets. Organisation and project are dropped: they decide who is billed."""

PRIVATE = frozenset({"openai-organization", "openai-project"})
"""Headers of a response that identify the operator's account."""


def for_upstream(request: ClientRequest, stream: bool) -> dict[str, str]:
    """Return the headers of a request, without the API key.

    All clients share the operator's key. So the idempotency key is hashed with the id of the client's API key, and two
    clients never send the same one.
    """
    result = {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "user-agent": f"floway-openai/{__version__}",
        **{name: request.headers[name] for name in FORWARDED if name in request.headers},
    }
    if key := request.headers.get("idempotency-key"):
        result["idempotency-key"] = hashlib.sha256(f"{request.api_key.id}\n{key}".encode()).hexdigest()
    return result
