"""Headers of requests and responses: what is passed on, and what is removed."""

import hashlib

from floway_core.contexts import ClientRequest
from floway_openai import __version__

PASSED_ON = ("openai-beta",)
"""Headers of the client that reach the upstream. Organisation and project do not, because they decide who is billed."""

PRIVATE = frozenset({"openai-organization", "openai-project"})
"""Headers of a response that identify the operator's account."""


def for_upstream(request: ClientRequest, stream: bool) -> dict[str, str]:
    """Return the headers of a request, without the secret ones.

    All clients share the operator's key. The idempotency key is hashed together with the id of the client's API key, so
    that two clients never send the same one.
    """
    result = {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "user-agent": f"floway-openai/{__version__}",
        **{name: request.headers[name] for name in PASSED_ON if name in request.headers},
    }
    if key := request.headers.get("idempotency-key"):
        result["idempotency-key"] = hashlib.sha256(f"{request.api_key.id}\n{key}".encode()).hexdigest()
    return result
