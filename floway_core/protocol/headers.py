"""Select the headers that pass through the gateway, in both directions."""

import functools
import re
from collections.abc import Collection, Container, Iterable, Mapping
from typing import Any

IGNORED = "x-floway-ignored"
"""Response header that lists the fields of the request that the upstream does not support."""

MAX_IGNORED_LENGTH = 2000
"""Characters of that header's value. Clients limit the size of headers."""

_FIELD_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

UNDERSCORED = "floway.underscored"
"""Key of the WSGI environment for request headers with an underscore in their name, as a mapping from names in lower
case to values. WSGI's own keys do not distinguish an underscore from a hyphen."""

CREDENTIALS = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"})
"""Request headers with credentials of clients of any dialect. Dialects add their own. They are for the gateway; no
provider sees them."""

UNPREFIXED = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
"""Headers whose WSGI key has no ``HTTP_`` prefix. Such a key may exist with an empty value if the client sent none."""

MAX_REMEMBERED_LENGTH = 4000
"""Characters in the names of a WSGI environment, whose headers are remembered. A usual one has a few hundred."""

_CONNECTION_HEADERS = """
    alt-svc alt-used connection expect http2-settings keep-alive proxy-authenticate proxy-authentication-info
    proxy-authorization proxy-connection proxy-status te trailer transfer-encoding upgrade via
"""
"""They apply to the connection to the upstream only: RFC 9110 section 7.6.1."""

_CONTENT_HEADERS = """
    accept-ranges age cache-control content-digest content-disposition content-encoding content-length content-location
    content-md5 content-range content-type digest etag expires last-modified pragma repr-digest surrogate-control vary
"""
"""They describe the bytes of the body and how to cache them. The gateway sends other bytes."""

_LOCATION_HEADERS = """
    accept-patch accept-post allow link location refresh service-worker-allowed sourcemap speculation-rules x-sourcemap
"""
"""They refer to the upstream's URLs. A client would resolve these against the gateway, or bypass it."""

_AUTHENTICATION_HEADERS = """
    authentication-control authentication-info clear-site-data optional-www-authenticate set-cookie set-cookie2
    set-login www-authenticate
"""
"""They concern the operator's account at the upstream. A client that acts on them drops or exposes its gateway key."""

_ORIGIN_HEADERS = """
    accept-ch content-security-policy content-security-policy-report-only critical-ch document-policy expect-ct
    feature-policy nel origin-agent-cluster p3p permissions-policy public-key-pins public-key-pins-report-only
    referrer-policy report-to reporting-endpoints strict-transport-security timing-allow-origin x-content-type-options
    x-dns-prefetch-control x-frame-options x-permitted-cross-domain-policies x-robots-tag
    x-xss-protection
"""
"""They are a browser's policy for the upstream's origin. The client talks to the gateway's origin."""

_SERVER_HEADERS = "date server server-timing x-powered-by x-request-id"
"""They describe the server that responded. For the client, this is the gateway."""

_PROXY_COMMAND_HEADERS = "x-lighttpd-send-file x-reproxy-url x-sendfile"
"""They make a reverse proxy in front of the gateway send a file or another page instead."""

_GROUPS = (
    _CONNECTION_HEADERS,
    _CONTENT_HEADERS,
    _LOCATION_HEADERS,
    _AUTHENTICATION_HEADERS,
    _ORIGIN_HEADERS,
    _SERVER_HEADERS,
    _PROXY_COMMAND_HEADERS,
)
NOT_RELAYED = frozenset(name for group in _GROUPS for name in group.split())
"""Response headers of an upstream that do not apply to the gateway's own response."""

NOT_RELAYED_PREFIXES = ("access-control-", "cf-", "cross-origin-", "x-accel-", "sec-")
"""Prefixes of further ones: policies of the origin, headers of an edge server, commands to a reverse proxy."""


def client_headers(environ: Mapping[str, Any], credentials: Iterable[str] = CREDENTIALS) -> dict[str, str]:
    """Return the request headers for plugins: names in lower case, without credentials.

    :param environ: the WSGI environment. ``UNDERSCORED`` contains the headers with an underscore in their name.
    :param credentials: names of the headers to omit, in lower case.
    """
    variables = tuple(environ)
    find = _known_headers if sum(map(len, variables)) <= MAX_REMEMBERED_LENGTH else _find_headers
    headers = {name: environ[variable] for variable, name in find(variables, frozenset(credentials))}
    if "" in headers.values():
        for name in UNPREFIXED:
            if headers.get(name) == "":
                del headers[name]
    if underscored := environ.get(UNDERSCORED):
        headers.update(underscored)
    return headers


def _find_headers(variables: tuple[str, ...], credentials: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return the variables that contain headers, each with the name of its header.

    :param variables: the names in a WSGI environment.
    :param credentials: names of the headers to omit.
    """
    prefixed = [(one, one[5:].replace("_", "-").lower()) for one in variables if one.startswith("HTTP_")]
    unprefixed = [(variable, name) for name, variable in UNPREFIXED.items() if variable in variables]
    others = [(variable, name) for variable, name in prefixed if name not in UNPREFIXED]
    return tuple((variable, name) for variable, name in (*others, *unprefixed) if name not in credentials)


_known_headers = functools.lru_cache(maxsize=128)(_find_headers)
"""``_find_headers`` for a client that has sent the same headers before."""


def is_readable_with_underscore(name: Any, credentials: Container[str] = CREDENTIALS) -> bool:
    """Return whether a plugin may read the header ``name`` with its underscore.

    It must be in lower case, and must not be another spelling of a header with credentials.

    :param credentials: names of the headers with credentials, in lower case.
    """
    if not isinstance(name, str) or "_" not in name or not NAME.fullmatch(name):
        return False
    return name.replace("_", "-").strip("-") not in credentials


def relayed_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the response headers of an upstream that the client may see, such as rate limits and quotas.

    Dropped are ``NOT_RELAYED``, the hop-by-hop headers that ``connection`` names, and invalid headers.

    :param headers: names in lower case.
    """
    headers = list(headers)
    connection_options = ",".join([value for name, value in headers if name == "connection"])
    hop_by_hop = {token.strip().lower() for token in connection_options.split(",")} if connection_options else ()
    return [
        (name, value)
        for name, value in headers
        if name not in NOT_RELAYED and name not in hop_by_hop and not name.startswith(NOT_RELAYED_PREFIXES)
        if NAME.fullmatch(name) and VALUE.fullmatch(value)
    ]


def with_ignored(headers: Iterable[tuple[str, str]], names: Collection[str]) -> list[tuple[str, str]]:
    """Return ``headers`` with the list of request fields that were ignored.

    :param headers: response headers of the upstream. Their own list, from an upstream that is a gateway too, is merged.
    :param names: names of ignored fields. Names that are not valid in a header are dropped; clients choose names.
    """
    headers = list(headers)
    upstream_names = [name.strip() for header, value in headers if header == IGNORED for name in value.split(",")]
    if not names and not upstream_names:
        return headers
    valid_names = [name for name in dict.fromkeys((*names, *upstream_names)) if _FIELD_NAME.fullmatch(name)]
    value = ", ".join(valid_names)
    if len(value) > MAX_IGNORED_LENGTH:
        value = value[: value.rindex(", ", 0, MAX_IGNORED_LENGTH)] + ", ..."
    others = [(header, value) for header, value in headers if header != IGNORED]
    return [*others, (IGNORED, value)] if value else others
