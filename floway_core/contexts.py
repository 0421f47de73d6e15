"""The objects that hooks and providers receive."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import peewee

from floway_core.secrets import SecretBox
from floway_core.settings import Settings

if TYPE_CHECKING:
    from floway_core.provider import Provider


@dataclass(frozen=True)
class Services:
    """What a plugin may use of the running gateway. One per process; shared by all threads.

    Queries run inside ``with services.database.connection_context():``, which takes a pooled connection for just
    as long as the block lasts. Never hold one while a stream runs.
    """

    settings: Settings
    database: peewee.Database
    secrets: SecretBox


@dataclass(frozen=True)
class Upstream:
    """One configured instance of a provider, with exactly one account."""

    id: str
    kind: str
    """The provider that serves it (``Provider.kind``)."""
    name: str
    """Chosen by the operator; unique."""
    enabled: bool
    position: int
    """Candidates are tried in ascending order of this number."""
    prefix: str = ""
    """Stands before the names of its models, with a slash between; empty for none."""


@dataclass(frozen=True)
class Limits:
    """How much an API key may be used, over all workers and hosts; None where there is no limit."""

    requests_per_minute: int | None = None
    concurrent_requests: int | None = None
    """Requests whose answer has not left yet, streamed ones and others."""
    tokens_per_day: int | None = None
    """Input and output tokens of a UTC day."""


NO_LIMITS = Limits()


@dataclass(frozen=True)
class ApiKey:
    """The API key a client authenticated with. The key itself is not kept."""

    id: str
    name: str
    expires_at: int | None = None
    """Unix time, seconds, from which it is refused."""
    models: frozenset[str] | None = None
    """The models it may use, named as clients ask for them; None: all."""
    upstreams: frozenset[str] | None = None
    """Ids of the upstreams it may use; None: all."""
    limits: Limits = NO_LIMITS
    shows_account: bool = False
    """Whether its clients see what upstreams tell of the account behind the gateway."""


HONOURED_HERE = frozenset({"input", "metadata", "model", "previous_response_id", "store", "stream"})
"""Fields of a request that the gateway makes true itself, whatever an upstream does with them."""


class ClientConnection(Protocol):
    """The client's side of the connection, as far as whoever waits for an upstream needs to see it."""

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when the client hangs up, or None when that cannot be seen."""

    def is_closed(self) -> bool:
        """Whether the client has hung up. Never blocks."""

    def shutdown_fileno(self) -> int | None:
        """A descriptor that becomes readable when the gateway ends and nobody may wait any longer; None for never."""


@dataclass(frozen=True)
class ClientRequest:
    """What the client asked for. Read it, never change it: every attempt starts from the same request."""

    id: str
    """Request id, a UUIDv7; also the ``x-request-id`` of the answer."""
    api_key: ApiKey
    headers: Mapping[str, str]
    """Request headers, names in lower case, without the client's credentials and cookies. Of those with an underscore
    in their name only what a provider reads (``Provider.underscore_headers``)."""
    body: Mapping[str, Any]
    """The parsed JSON body, with ``input`` as a list of items and everything said before in it."""
    stream: bool
    """Whether the client wants server-sent events."""
    client: ClientConnection


@dataclass(frozen=True)
class PreviousSnapshot:
    """The stored state that a request continues."""

    response_id: str
    metadata: Mapping[str, Mapping[str, Any]]
    """What the plugins kept with it, by plugin. Read it, never change it."""
    new_items: Sequence[Mapping[str, Any]]
    """The input items that the request adds to it, oldest first. Read them, never change them."""
    ordinal: Callable[[], int]
    """Claims the place of this request's snapshot among the children of the previous one: 1 for the first child, and
    more for each fork. No two requests anywhere get the same. The first call asks the database, later ones repeat it.
    """


@dataclass
class AttemptContext:
    """One try at one candidate. Lives from ``on_attempt_start`` until the answer has been relayed."""

    id: str
    """That of the request, a dot, and which of its tries this is, counted from 1. No other attempt has it."""
    request: ClientRequest
    upstream: Upstream
    provider: "Provider"
    """The provider that owns the upstream."""
    model: str
    """The model as the upstream names it."""
    previous: PreviousSnapshot | None = None
    """What the request continues, named by the client or recognised in the history it sent; None at the start."""
    provider_state: Any = None
    """Belongs to the plugin that owns the upstream: what must stay the same over all dispatches of the attempt."""
    ignored: list[str] = field(default_factory=list)
    """What the upstream cannot honour of the client's request; see ``ResponsesRequestContext.ignore``."""


@dataclass
class ResponsesRequestContext:
    """One request about to be sent to the upstream. ``body`` and ``headers`` are a fresh copy: change them freely."""

    attempt: AttemptContext
    dispatch: int
    """1 for the first dispatch of the attempt, 2 for the second, ..."""
    body: dict[str, Any]
    """The client's body, with ``model`` set to the upstream's name for it, and with what an alias asks for."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers for the upstream in the order they are sent. Starts empty: nothing of the client's leaks by default."""

    def ignore(self, *names: str) -> None:
        """Tell the client, in the answer's header ``x-floway-ignored``, which fields of its request are left out for
        this upstream, so that nobody believes that they worked.

        Names of fields that the client did not send, or sent as null, do not count, and neither do those that the
        gateway honours itself. The same name twice is there once.

        :param names: as errors name fields in ``param``: ``temperature``, ``reasoning.effort``, ``tools[0]``.
        """
        sent = self.attempt.request.body
        for name in names:
            top = name.partition(".")[0].partition("[")[0]
            if sent.get(top) is not None and top not in HONOURED_HERE and name not in self.attempt.ignored:
                self.attempt.ignored.append(name)


@dataclass
class SnapshotCommitContext:
    """A snapshot about to be stored, inside the transaction that stores it."""

    attempt: AttemptContext
    response_id: str
    """The id under which the client will continue."""
    mode: str
    """``append``: the response continues the history. ``replace``: it was compacted and starts anew."""
    metadata: dict[str, Any]
    """What the plugin keeps with this snapshot, as a JSON object: its own, inherited from the previous snapshot."""
