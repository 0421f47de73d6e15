"""Signing in to the account of an upstream with a browser, by pasting the URL that it ends on.

The state of a sign-in is in the operator's form, encrypted with the secret key, so that any worker can finish it.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.provider import Provider
from floway_core.runtime.gateway import Gateway
from floway_core.secrets import DecryptionError
from floway_core.storage import upstreams

SECONDS_TO_FINISH = 900
"""Time from the beginning to the end of a sign-in."""

PURPOSE = "sign-in"
"""Marks what this module encrypts, because other things are encrypted with the same key."""


@dataclass(frozen=True)
class BegunSignIn:
    """A sign-in that has begun."""

    url: str
    """The page to open in a browser."""
    ends_on: str
    """The beginning of the URL that the browser ends on, which is to be pasted."""
    ticket: str = field(repr=False)
    """What ``finish`` needs. Only the operator who has begun may have it."""


def begin(gateway: Gateway, kind: str, name: str | None = None) -> BegunSignIn:
    """Begin to sign in to an upstream.

    :param kind: its provider.
    :param name: the name of an upstream, new or existing; None: the provider makes one from the account.
    :raises GatewayError: 400, the provider has no sign-in; 409, the name belongs to an upstream of another provider;
        503, there is no secret key.
    """
    provider = _find_provider(gateway, kind)
    for row in upstreams.all_rows(gateway.services.database):
        if row.name == name and row.kind != kind:
            raise GatewayError(409, f"There is already an upstream named {name!r}.", param="name")
    begun = provider.begin_sign_in()
    content = {
        "purpose": PURPOSE,
        "kind": kind,
        "name": name,
        "state": begun.state,
        "url": begun.url,
        "ends_on": begun.ends_on,
        "until": int(time.time()) + SECONDS_TO_FINISH,
    }
    return BegunSignIn(begun.url, begun.ends_on, gateway.services.secrets.encrypt(jsontext.dumps(content).decode()))


def resume(gateway: Gateway, ticket: str) -> BegunSignIn:
    """Return a sign-in that has begun, to show it again.

    :raises GatewayError: 400 with the param ``ticket``, it has to begin again.
    """
    content = _read_ticket(gateway, ticket)
    return BegunSignIn(content["url"], content["ends_on"], ticket)


def finish(gateway: Gateway, ticket: str, pasted: str) -> Upstream:
    """Finish a sign-in, and store its account as an upstream. An account has one upstream.

    :param ticket: that of ``begin``.
    :param pasted: the URL that the browser has ended on.
    :raises GatewayError: 400 with the param ``pasted``, the text or the sign-in is not valid; 400 with the param
        ``ticket``, the sign-in has to begin again; 409, the name and the account do not belong together; 503, the
        server of the provider does not answer.
    """
    content = _read_ticket(gateway, ticket)
    provider = _find_provider(gateway, content["kind"])
    return provider.finish_sign_in(content["state"], pasted, content["name"])


def _find_provider(gateway: Gateway, kind: str) -> Provider:
    provider = gateway.providers.by_kind.get(kind)
    if provider is None or not provider.signs_in:
        message = f"There is no sign-in for upstreams of provider {kind[:40]!r}."
        raise GatewayError(400, message, param="kind", code="invalid_value")
    return provider


def _read_ticket(gateway: Gateway, ticket: str) -> dict[str, Any]:
    """:raises GatewayError: 400, it is damaged, or too old."""
    try:
        content = jsontext.loads(gateway.services.secrets.decrypt(ticket).encode())
    except (DecryptionError, ValueError):
        content = None
    if not isinstance(content, dict) or content.get("purpose") != PURPOSE or content["until"] < time.time():
        message = "This sign-in is no longer valid. Begin again."
        raise GatewayError(400, message, param="ticket", code="sign_in_expired")
    return content
