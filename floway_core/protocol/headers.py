"""Which headers pass through the gateway."""

from collections.abc import Iterable, Mapping

# The client's credentials are the gateway's business and no provider's.
CREDENTIALS = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"})

# They describe the connection to the upstream, or that host: RFC 9110 section 7.6.1, and what edge servers add.
NOT_RELAYED = frozenset(
    """
    alt-svc cache-control connection content-encoding content-length content-type date expect keep-alive nel
    proxy-authenticate proxy-connection report-to server set-cookie set-cookie2 strict-transport-security te trailer
    transfer-encoding upgrade vary via www-authenticate x-accel-buffering x-request-id
    """.split()
)


def of_client(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A client's headers as plugins see them: names in lower case, without credentials."""
    named = ((name.lower(), value) for name, value in headers)
    return {name: value for name, value in named if name not in CREDENTIALS}


def of_upstream(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers of an upstream's answer that the client gets to see: rate limits, quota, turn state and the like."""
    return [(name, value) for name, value in headers if name not in NOT_RELAYED and not name.startswith("cf-")]


def first(headers: Iterable[tuple[str, str]] | Mapping[str, str], name: str) -> str | None:
    """The first value of ``name`` (lower case), or None."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return next((value for key, value in pairs if key == name), None)
