"""Which headers pass through the gateway."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

IGNORED = "x-floway-ignored"
"""The header of an answer that lists what of the request the upstream could not honour."""

LONGEST_LIST = 2000
"""Characters of such a list: clients have limits for headers."""

_FIELD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

UNDERSCORED = "floway.underscored"
"""The name in the WSGI environment of the headers with an underscore in their name that reach the application, as a
mapping. The environment's own names cannot tell an underscore from a hyphen."""

# The client's credentials are the gateway's business and no provider's.
CREDENTIALS = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"})

UNPREFIXED = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
"""Headers that WSGI has under names of their own. These may be there and empty when the client sent none."""

_OF_THE_CONNECTION = """
    alt-svc alt-used connection expect http2-settings keep-alive proxy-authenticate proxy-authentication-info
    proxy-authorization proxy-connection proxy-status te trailer transfer-encoding upgrade via
"""
"""They end where the connection to the upstream ends: RFC 9110 section 7.6.1."""

_OF_THE_CONTENT = """
    accept-ranges age cache-control content-digest content-disposition content-encoding content-length content-location
    content-md5 content-range content-type digest etag expires last-modified pragma repr-digest surrogate-control vary
"""
"""They describe bytes, and how long these may be kept; the gateway writes other bytes."""

_OF_THE_PLACE = """
    accept-patch accept-post allow link location refresh service-worker-allowed sourcemap speculation-rules x-sourcemap
"""
"""They are about the upstream's URLs: the client would resolve them here, or follow them past the gateway."""

_OF_THE_SIGN_IN = """
    authentication-control authentication-info clear-site-data optional-www-authenticate set-cookie set-cookie2
    set-login www-authenticate
"""
"""They are about the operator's account there; a client that acts on them gives up, or gives away, its key here."""

_OF_THE_ORIGIN = """
    accept-ch content-security-policy content-security-policy-report-only critical-ch document-policy expect-ct
    feature-policy nel origin-agent-cluster p3p permissions-policy public-key-pins public-key-pins-report-only
    referrer-policy report-to reporting-endpoints strict-transport-security timing-allow-origin x-content-type-options
    x-dns-prefetch-control x-frame-options x-permitted-cross-domain-policies x-robots-tag
    x-xss-protection
"""
"""They tell a browser what it may do at that origin. This one is the gateway's."""

_OF_THE_HOST = "date server server-timing x-powered-by x-request-id"
"""They describe the machine that answered; to a client that is the gateway."""

_FOR_A_PROXY = "x-lighttpd-send-file x-reproxy-url x-sendfile"
"""They have a proxy in front of the gateway send a file or a page of its own instead."""

_GROUPS = (
    _OF_THE_CONNECTION,
    _OF_THE_CONTENT,
    _OF_THE_PLACE,
    _OF_THE_SIGN_IN,
    _OF_THE_ORIGIN,
    _OF_THE_HOST,
    _FOR_A_PROXY,
)
NOT_RELAYED = frozenset(name for group in _GROUPS for name in group.split())
"""Headers of an upstream's answer that mean the upstream, and would mean something else here."""

NOT_RELAYED_BEGINNINGS = ("access-control-", "cf-", "cross-origin-", "x-accel-", "sec-")
"""As well as those that begin like this: policies of the origin, of an edge server, and orders to a proxy."""


def client_headers(environ: Mapping[str, Any]) -> dict[str, str]:
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


def relayed_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers of an upstream's answer that the client gets to see: rate limits, quota, turn state and the like.

    :param headers: names in lower case. What the protocol forbids in a name or a value is left out, and so is what a
        ``connection`` header names: it is for the next hop only.
    """
    headers = list(headers)
    named = ",".join(value for name, value in headers if name == "connection")
    hop_by_hop = {token.strip().lower() for token in named.split(",")}
    return [
        (name, value)
        for name, value in headers
        if name not in NOT_RELAYED and name not in hop_by_hop and not name.startswith(NOT_RELAYED_BEGINNINGS)
        if NAME.fullmatch(name) and VALUE.fullmatch(value)
    ]


def with_ignored(headers: Iterable[tuple[str, str]], names: Iterable[str]) -> list[tuple[str, str]]:
    """``headers`` with the list of what was ignored of the request, by an upstream that is a gateway, too, or for it.

    :param names: of fields. One that is no fit for a header, as clients may choose it, is left out.
    """
    headers = list(headers)
    theirs = [name.strip() for header, value in headers if header == IGNORED for name in value.split(",")]
    fit = [name for name in dict.fromkeys((*names, *theirs)) if _FIELD.fullmatch(name)]
    listed = ", ".join(fit)
    if len(listed) > LONGEST_LIST:
        listed = listed[: listed.rindex(", ", 0, LONGEST_LIST)] + ", ..."
    others = [(header, value) for header, value in headers if header != IGNORED]
    return [*others, (IGNORED, listed)] if listed else others
