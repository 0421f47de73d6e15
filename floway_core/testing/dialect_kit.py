"""What the contract of dialects needs: a provider that sends to a scripted upstream, odd events, and raw requests."""

import contextlib
import math
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from floway_core.testing import events
from floway_core.testing.client import TIMEOUT_SECONDS

KIT_PROVIDER = '''"""A provider that sends requests to the scripted upstream of a test."""

import json

from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext
from floway_core.provider import Model, Provider
from floway_core.settings import Setting, origin_url
from floway_core.upstream import HttpClient

CLIENT_HEADERS = "x-kit-client-headers"


class KitProvider(Provider):
    kind = "kit"

    def __init__(self, services):
        self._client = HttpClient(services.settings)
        self._url = services.settings.plugin["kit_url"]

    def list_models(self, upstream):
        return [Model("kit-1", "kit", 1700000000), Model("org/kit-2", "kit")]

    def send(self, ctx):
        request = ctx.attempt.request
        seen = json.dumps([dict(request.headers), dict(request.original.query) if request.original else {}])
        headers = {"content-type": "application/json", CLIENT_HEADERS: seen}
        return self._client.stream(ctx, "POST", f"{self._url}/answers", headers, jsontext.dumps(ctx.body))

    def count_tokens(self, ctx):
        return 42 if "COUNT" in json.dumps(ctx.body["input"]) else None


@hookimpl
def register_settings():
    return [Setting("kit_url", origin_url, "http://127.0.0.1:9", "Where to send requests.")]


@hookimpl
def register_providers(services):
    return [KitProvider(services)]
'''
"""The source of the plugin ``kit``."""

MODELS = ("kit-1", "org/kit-2")
"""The models that it serves."""

FOREIGN_ERROR = b'{"type":"error","error":{"type":"odd_error","message":"Not now."},"mark":"foreign"}'
"""An error body of an upstream in no format of a dialect under test."""

UNKNOWN_EVENT = b'event: response.unknown\ndata: {"type": "response.unknown", "text": [null, {"a": 1}]}\n\n'

OTHER_ITEMS = (
    {"type": "unknown_thing", "id": "unknown_1", "payload": {"deep": [1, None, "\u00fc"]}},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
    events.function_call_item("look_up", '{"word": "day"}'),
)
"""Output items without a text for the user."""


ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    -7,
    1e300,
    "\ud83d",
    [],
    {},
    [None],
    [[7]],
    {"type": 7},
    [{"type": "odd", "content": [{}]}],
)
"""What stands in place of each value of a request, and of each part of one."""


MAX_ODD_BODIES = 250
"""How many requests with an odd part a dialect is tried with."""


def odd_bodies(body: Any) -> Iterator[Any]:
    """Yield copies of a JSON value with one odd part each, and ones that lack a part."""
    yield from ODD_VALUES
    if isinstance(body, dict):
        for name, value in body.items():
            yield {other: body[other] for other in body if other != name}
            yield from ({**body, name: odd} for odd in odd_bodies(value))
    elif isinstance(body, list):
        for index, value in enumerate(body):
            yield from ([*body[:index], odd, *body[index + 1 :]] for odd in odd_bodies(value))


def sampled(bodies: Sequence[Any]) -> Sequence[Any]:
    """Return all of some odd bodies, or as many as are tried at most, from all places and with all odd values.

    What stands next to each other is alike, so it takes one in so many. Their number has no divisor in common with that
    of the odd values, so that the places get different ones.
    """
    step = -(-len(bodies) // MAX_ODD_BODIES)
    while math.gcd(step, len(ODD_VALUES) * (len(ODD_VALUES) + 1)) > 1:
        step += 1
    return bodies[::step]


def exchange_raw(url: str, request: bytes) -> bytes:
    """Send bytes to a gateway, and return everything that it sends until it closes the connection."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), TIMEOUT_SECONDS) as connection:
        with contextlib.suppress(OSError):  # the gateway may have answered and closed already
            connection.sendall(request)
        return connection.makefile("rb").read()


def count_stored(database: Path) -> int:
    """Return the number of stored responses."""
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
        ((number,),) = connection.execute("SELECT count(*) FROM responses_snapshots").fetchall()
        return int(number)


def with_query(path: str, query: str) -> str:
    """Return ``path`` with a further query; ``""`` adds none."""
    return f"{path}{'&' if '?' in path else '?'}{query}" if query else path
