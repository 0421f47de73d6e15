"""Headers of requests and responses: what the operator may add, what is passed on, and what is removed."""

import hashlib
import re

from floway_core.contexts import ClientRequest
from floway_core.protocol.headers import CREDENTIALS, NOT_RELAYED
from floway_openai import __version__

PASSED_ON = ("openai-beta",)
"""Headers of the client that reach the upstream. Organisation and project do not, because they decide who is billed."""

PRIVATE = frozenset({"openai-organization", "openai-project"})
"""Headers of a response that identify the operator's account."""

_RESERVED = NOT_RELAYED | {"accept", "accept-encoding", "content-length", "host", "idempotency-key"}


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


def parse_header(text: str) -> tuple[str, str]:
    """Parse ``name: value``.

    :returns: (name in lower case, value).
    :raises ValueError: the text is no header, or one that cannot be set.
    """
    match = re.fullmatch(r"\s*([\w!#$%&'*+.^`|~-]+)\s*:\s*([ -~]*?)\s*", text, re.ASCII)
    if not match:
        raise ValueError("'name: value' is expected")
    name, value = match[1].lower(), match[2]
    if name in CREDENTIALS:
        raise ValueError(f"{name} holds the key, which is read from a file or asked for")
    if name in _RESERVED:
        raise ValueError(f"{name} cannot be set")
    return name, value
