"""The value types in which a provider describes its upstreams: models, paths, account details, options, quotas.

Import them from ``floway_core.provider``.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from floway_core.prices import Price


@dataclass(frozen=True)
class Model:
    """A model that an upstream serves."""

    id: str
    """The name that clients send in ``model``."""
    owned_by: str
    created: int = 0
    """Unix time in seconds; 0 if the upstream does not state it."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The upstream's own catalogue entry, for a dialect of the same plugin. Names in it are the upstream's."""
    upstream_name: str = ""
    """The upstream's name for the model, if it is not ``id``."""
    price: Price | None = None
    """The price of its tokens, if known. The operator's price table takes precedence."""


@dataclass(frozen=True)
class ForwardedPath:
    """A path of another API than the Responses API, whose requests are forwarded to the upstream."""

    path: str
    """Appended to the base URL of an upstream, without variable parts: ``/embeddings``. Clients put one of ``prefixes``
    before it."""
    method: str = "POST"
    has_model: bool = True
    """Whether the body, JSON or a form, names a ``model``, which decides about the upstream. If not, requests go to the
    first upstream that the key may use, of those that forward the path."""
    default_model: str | None = None
    """The model that the API uses if a request names none."""
    prefixes: Sequence[str] = ("/v1", "")
    """Prefixes that clients may put before the path."""
    describes_account: bool = False
    """Whether the answer describes the operator's account: only API keys that show it may request the path."""


@dataclass(frozen=True)
class AccountDetails:
    """The parts of an upstream's answers that describe the operator's account: its plan, quota, user.

    The gateway removes them for API keys that do not show the account. A ``*`` at the end of a header name or an event
    type matches anything. If all fields are empty, the gateway does not inspect the answers.
    """

    headers: tuple[str, ...] = ()
    """Header names, in lower case."""
    needed_headers: tuple[str, ...] = ()
    """Exceptions from ``headers``: clients need these."""
    response_fields: tuple[str, ...] = ()
    """Fields of response objects; replaced by null."""
    error_fields: tuple[str, ...] = ()
    """Fields of error objects, in error answers and in events; removed."""
    events: tuple[str, ...] = ()
    """Types of events; removed."""

    @property
    def in_bodies(self) -> bool:
        """Whether a body may contain account details."""
        return bool(self.response_fields or self.error_fields or self.events)

    @functools.cached_property
    def event_markers(self) -> tuple[bytes, ...]:
        """Texts such that each event with account details contains at least one of them, unless it escapes letters.

        They are few, because every event is searched for them. Every response object has an ``error``, mostly null, so
        that the names of its fields are sought instead. These lack the first quote: they are removed even if null.
        """
        names = [*self.response_fields, *(["headers"] if self.headers else [])]
        return (
            *(b'"%b"' % name.encode() for name in names),
            *(b'%b"' % name.encode() for name in self.error_fields),
            *(kind.rstrip("*").encode() for kind in self.events),
        )

    @functools.cached_property
    def _beginnings(self) -> tuple[str, ...]:
        """The beginnings of names of headers that are hidden."""
        return tuple(pattern[:-1] for pattern in self.headers if pattern.endswith("*"))

    def covers_header(self, name: str) -> bool:
        """Whether to hide the header ``name`` (lower case)."""
        return (name in self.headers or name.startswith(self._beginnings)) and name not in self.needed_headers

    def covers_event(self, kind: str) -> bool:
        """Whether to hide events of type ``kind``."""
        return any(kind.startswith(one[:-1]) if one.endswith("*") else kind == one for one in self.events)


@dataclass(frozen=True)
class UpstreamOption:
    """An option of upstreams of one kind, set by the operator: ``--compacts`` on the command line."""

    name: str
    """Lower case, with underscores. The value is in ``Connection.options[name]``."""
    help: str
    """One sentence for the operator."""
    choices: tuple[str, ...] = ()
    """The allowed texts; the first one is the default. Empty for a flag, which is True or False."""

    @property
    def default(self) -> str | bool:
        """The value if the operator sets none."""
        return self.choices[0] if self.choices else False


@dataclass(frozen=True)
class ConnectionOptions:
    """The fields that the operator sets for an upstream with a URL and an API key.

    Core then provides the rest: commands, the admin API, the encrypted storage, and the base class
    ``floway_core.upstream.keyed.KeyedProvider``.
    """

    default_base_url: str | None = None
    """The URL if the operator sets none; None if it is required."""
    example_base_url: str = "https://api.example.com/v1"
    """An example for the help of the command line."""
    key_is_optional: bool = False
    """Whether upstreams without a key are allowed."""
    options: tuple[UpstreamOption, ...] = ()


@dataclass(frozen=True)
class Problem:
    """Why an upstream cannot serve. Everybody may read it, so it names no secret and no account."""

    reason: str
    """A sentence that says what is wrong."""
    remedy: str = ""
    """What the operator can do about it, in whole sentences; empty if there is nothing to do, or the reason says it."""

    def __str__(self) -> str:
        return f"{self.reason} {self.remedy}".rstrip()


@dataclass(frozen=True)
class Quota:
    """How much of a limit of its account an upstream has used, as last reported. Only for display."""

    name: str
    """Which limit, such as ``5 hours``; unique among those of an upstream."""
    used: float | None = None
    """The share that is used, from 0 to 1, or more; None if unknown."""
    resets_at: int | None = None
    """Unix time in seconds at which nothing of it is used again; None if unknown."""
    reported_at: int | None = None
    """Unix time in seconds of the report; None if unknown."""
    note: str = ""
    """What else there is to say, in a few words."""


@dataclass(frozen=True)
class SignIn:
    """A sign-in that has begun: the operator signs in on a page, and pastes the URL that the browser ends on."""

    url: str
    """The page to open."""
    ends_on: str
    """The beginning of the URL that the browser ends on."""
    state: str = field(repr=False)
    """What ``Provider.finish_sign_in`` needs to know of the beginning. The gateway keeps it encrypted."""
