"""Which headers pass through the gateway."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

UNDERSCORED = "floway.underscored"
"""The name in the WSGI environment of the headers with an underscore in their name that reach the application, as a
mapping. The environment's own names cannot tell an underscore from a hyphen."""

# The client's credentials are the gateway's business and no provider's.
CREDENTIALS = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"})

UNPREFIXED = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
"""Headers that WSGI has under names of their own. These may be there and empty when the client sent none."""

# They describe the connection to the upstream, or that host: RFC 9110 section 7.6.1, and what edge servers add.
NOT_RELAYED = frozenset(
    """
    alt-svc cache-control connection content-encoding content-length content-type date expect keep-alive nel
    proxy-authenticate proxy-connection report-to server set-cookie set-cookie2 strict-transport-security te trailer
    transfer-encoding upgrade vary via www-authenticate x-accel-buffering x-request-id
    """.split()
)


def of_client(environ: Mapping[str, Any]) -> dict[str, str]:
    """A client's headers as plugins see them: names in lower case, without credentials.

    :param environ: that of WSGI, which has them under names such as ``HTTP_USER_AGENT``, but for those with an
        underscore.
    """
    told = {
        variable[5:].replace("_", "-").lower(): value
        for variable, value in environ.items()
        if variable.startswith("HTTP_")
    }
    for name, variable in UNPREFIXED.items():
        told.pop(name, None)
        if value := environ.get(variable):
            told[name] = value
    for name in CREDENTIALS:
        told.pop(name, None)
    return {**told, **environ.get(UNDERSCORED, {})}


def is_readable_with_underscore(name: Any) -> bool:
    """Whether ``name`` can be that of a header that reaches plugins with its underscore: in lower case, and no other
    spelling of a credential."""
    if not isinstance(name, str) or "_" not in name or not NAME.fullmatch(name):
        return False
    return name.replace("_", "-").strip("-") not in CREDENTIALS


def of_upstream(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers of an upstream's answer that the client gets to see: rate limits, quota, turn state and the like.

    :param headers: names in lower case. What the protocol forbids in a name or a value is left out.
    """
    return [
        (name, value)
        for name, value in headers
        if name not in NOT_RELAYED and not name.startswith("cf-") and NAME.fullmatch(name) and VALUE.fullmatch(value)
    ]
