"""Headers: what an operator may add, what of a client's is passed on, and what of an upstream's is not."""

import hashlib
import re

from floway_core.contexts import ClientRequest
from floway_core.protocol.headers import CREDENTIALS, NOT_RELAYED
from floway_openai import __version__

# Not the organisation and the project: they say whom the operator's key bills, and that is not for clients to choose.
PASSED_ON = ("openai-beta",)

PRIVATE = frozenset({"openai-organization", "openai-project"})
"""In an answer they tell whose account it is."""

_RESERVED = NOT_RELAYED | {"accept", "accept-encoding", "content-length", "host", "idempotency-key"}


def for_upstream(request: ClientRequest, stream: bool) -> dict[str, str]:
    """The headers of a request, all but the secret ones.

    Clients share the operator's key, so an idempotency key is made one of this client's: no other's can meet it.
    """
    made = {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "user-agent": f"floway-openai/{__version__}",
        **{name: request.headers[name] for name in PASSED_ON if name in request.headers},
    }
    if given := request.headers.get("idempotency-key"):
        made["idempotency-key"] = hashlib.sha256(f"{request.api_key.id}\n{given}".encode()).hexdigest()
    return made


def parse(text: str) -> tuple[str, str]:
    """(name, value) of ``name: value``, the name in lower case.

    :raises ValueError: with what is wrong.
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
