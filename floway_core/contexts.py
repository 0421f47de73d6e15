"""The objects that hooks and providers receive."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import peewee

from floway_core.errors import GatewayError
from floway_core.secrets import SecretBox
from floway_core.settings import Settings


@dataclass(frozen=True)
class Services:
    """The parts of the running gateway that plugins may use. One object per process, shared by all threads.

    Read with ``floway_core.storage.db.select``, or inside ``with services.database.connection_context():``. Write
    inside ``with transaction(services.database):`` of the same module. Such a block takes a connection from the pool
    and returns it at its end. Never hold one while a stream runs.
    """

    settings: Settings
    database: peewee.Database
    secrets: SecretBox


@dataclass(frozen=True)
class Upstream:
    """One configured instance of a provider, with exactly one account."""

    id: str
    kind: str
    """The kind of its provider (``Provider.kind``)."""
    name: str
    """Chosen by the operator; unique."""
    enabled: bool
    position: int
    """The gateway tries candidates in ascending order of this number."""
    prefix: str = ""
    """Clients request its models as ``prefix/model``; empty for no prefix."""


@dataclass(frozen=True)
class Limits:
    """The limits of an API key, over all workers and hosts. None means no limit."""

    requests_per_minute: int | None = None
    concurrent_requests: int | None = None
    """Requests that run at the same time, streamed or not."""
    tokens_per_day: int | None = None
    """Input and output tokens of a UTC day."""


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Budget:
    """How much money an API key, or the group of it, may spend. Amounts are in billionths of a USD; None: no limit."""

    holder_id: str
    """The id of the key or of the group."""
    is_group: bool
    per_day: int | None
    """For a UTC day."""
    per_month: int | None
    """For a month in UTC."""
    allows_unpriced: bool = False
    """Whether models may be used whose price is unknown. They count as nothing."""

    @property
    def is_limited(self) -> bool:
        """Whether there is an amount. A group without one only counts what its keys spend."""
        return bool(self.per_day or self.per_month)


@dataclass(frozen=True)
class ApiKey:
    """The API key a client authenticated with, without the secret itself."""

    id: str
    name: str
    expires_at: int | None = None
    """Unix time in seconds at which the key expires; None: never."""
    models: frozenset[str] | None = None
    """The models it may use, by the names that clients request; None: all."""
    upstreams: frozenset[str] | None = None
    """Ids of the upstreams it may use; None: all."""
    limits: Limits = NO_LIMITS
    budgets: tuple[Budget, ...] = ()
    """Its own and that of its group. What it spends is counted for each of them."""
    max_stored_bytes: int | None = None
    """Size of its conversations in the database; None: the limit in the settings."""
    shows_account: bool = False
    """Whether its clients see the account details in the answers of upstreams (``Provider.account_details``)."""

    @property
    def needs_prices(self) -> bool:
        """Whether it may only use models whose price is known, because a budget would not notice the others."""
        return any(budget.is_limited and not budget.allows_unpriced for budget in self.budgets)


GATEWAY_FIELDS = frozenset(
    {"background", "conversation", "input", "metadata", "model", "previous_response_id", "store", "stream"}
)
"""Request fields that the gateway implements itself, for all upstreams."""


TRACE_HEADERS = ("traceparent", "tracestate", "baggage")
"""The headers of W3C Trace Context and W3C Baggage."""


class ClientConnection(Protocol):
    """The connection to the client, for code that waits for an upstream and must notice that the client disconnects."""

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when the client disconnects; None if that cannot be detected."""

    def is_closed(self) -> bool:
        """Whether the client has disconnected. Never blocks."""

    def shutdown_fileno(self) -> int | None:
        """A descriptor that becomes readable when the gateway shuts down and callers must stop waiting; None: never."""


@dataclass
class DialectRequest:
    """An authenticated HTTP request of a client for its dialect, without credentials. Do not change it."""

    method: str
    path: str
    path_args: Mapping[str, str]
    """The variable parts of the path, by their name in ``Route.rule``."""
    query: Mapping[str, str]
    """The query parameters, without those with a key. Of a repeated parameter, the first value."""
    headers: Mapping[str, str]
    """As ``ClientRequest.headers``."""
    body: dict[str, Any]
    """The parsed JSON object; empty for a request without a body."""
    raw: bytes = b""
    """The decompressed bytes of the body. Empty if the dialect does not need them (``Dialect.keeps_original``), and as
    soon as a stream to the client begins, because no attempt follows."""


@dataclass
class ClientRequest:
    """A client's request. Do not change it: every attempt starts from the same request."""

    id: str
    """Request id, a UUIDv7; also the ``x-request-id`` of the answer."""
    api_key: ApiKey
    headers: Mapping[str, str]
    """Request headers, names in lower case, without the client's credentials and cookies. Names with an underscore
    occur only if a provider declares them (``Provider.underscore_headers``)."""
    body: Mapping[str, Any]
    """The parsed JSON body. ``input`` is a sequence of items and includes the stored history that the request
    continues. It is no list: items of the history are parsed when they are first read."""
    stream: bool
    """Whether the client wants server-sent events."""
    client: ClientConnection
    dialect: str = "responses"
    """The name of the API format that the client speaks. ``body`` always has the form of the Responses API."""
    original: DialectRequest | None = None
    """The client's original request; None for the Responses API, where ``body`` is complete. A provider that speaks the
    same dialect may send it instead of ``body``."""
    conversation_hint: str | None = None
    """A value of the client that identifies its conversation, for providers with sessions; None if it sends none."""
    restores_reasoning: bool = False
    """Whether the client omits the reasoning between tool calls from its history, so that the gateway restores it."""
    required_fields: Mapping[str, str] = field(default_factory=dict)
    """Fields of ``body`` that no upstream may ignore, as ``ResponsesRequestContext.ignore`` names them, and what each
    of them is called in an error."""
    dropped_fields: Sequence[str] = ()
    """Fields of ``original`` that only tune the answer and that ``body`` does not have. If the upstream speaks another
    dialect, the answer lists them as ignored."""
    untranslatable: GatewayError | None = None
    """The error if ``body`` lacks something that only ``original`` has: only a provider of the same dialect may serve
    the request."""
    reserve_memory: Callable[[int], None] = lambda size: None
    """Reserves bytes of memory for stored items until the request has ended, or raises a ``GatewayError``."""
    shrink_memory: Callable[[], None] = lambda: None
    """Releases the part of the memory that is only needed until an upstream has accepted the request."""
    is_websocket_message: bool = False
    """Whether the request came as a message of a WebSocket. ``headers`` are then those of the upgrade, the same for all
    requests of the connection, so what ``body`` says takes precedence."""


@dataclass(frozen=True)
class PreviousSnapshot:
    """The stored state that a request continues. Do not change it."""

    response_id: str
    metadata: Mapping[str, Mapping[str, Any]]
    """The metadata that the plugins stored with it, by plugin."""
    new_items: Sequence[Mapping[str, Any]]
    """The input items that the request adds to it, oldest first."""
    ordinal: Callable[[], int]
    """Reserve this request's ordinal among the children of the snapshot: 1 for the first child, a higher number for
    each fork. No two requests on any host get the same, except that a response that is not stored passes its ordinal on
    to the first request that continues it. The first call writes to the database; later calls return the same number.
    """


@dataclass
class AttemptContext:
    """One attempt at one candidate. Lives from ``on_attempt_start`` until the answer has been relayed."""

    id: str
    """The request id, a dot, and the number of this attempt, counted from 1. Unique."""
    request: ClientRequest
    upstream: Upstream
    provider: object
    """The provider object that serves the upstream. Its plugin narrows the type: ``isinstance(ctx.provider, Mine)``."""
    model: str
    """The model by the name that the upstream uses."""
    previous: PreviousSnapshot | None = None
    """The snapshot that the request continues: the client named it, or the gateway recognised it in the history that
    the client sent. None for a new conversation."""
    provider_state: Any = None
    """For the plugin that owns the upstream: data that must be the same for all dispatches of the attempt."""
    ignored: list[str] = field(default_factory=list)
    """Request fields that the upstream does not support; see ``ResponsesRequestContext.ignore``."""
    trace_headers: dict[str, str] = field(default_factory=dict)
    """Headers with which the upstream continues a trace. Observers may also fill it, in ``on_attempt_start``. Each
    dispatch sends those of ``TRACE_HEADERS`` that its own headers do not have."""
    server: str | None = None
    """Scheme, host and port of the server that received the last dispatch, set by ``floway_core.upstream.HttpClient``;
    None if nothing was sent."""
    response_id: str = ""
    """The id of the response, as the client will see it."""
    continues: str | None = None
    """The id of the response whose history the input begins with, unchanged; None if there is none, or if the client
    sent the history itself. It may be a response that is not stored."""


@dataclass
class ResponsesRequestContext:
    """One request about to be sent to the upstream.

    ``body`` and ``headers`` are fresh copies: change them freely. Of a shallow copy of the body
    (``Provider.accepts_shallow_copy``) that is true for its fields, not for what is in them.
    """

    attempt: AttemptContext
    dispatch: int
    """1 for the first dispatch of the attempt, 2 for the second, ..."""
    body: dict[str, Any]
    """The client's body with the upstream's name of the ``model``, and with the overrides of the alias applied. Its
    ``input`` is a list, unless the provider accepts a shallow copy (``Provider.accepts_shallow_copy``)."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers for the upstream, in the order in which they are sent. Starts empty, so that no client header leaks."""
    held_items: int = 0
    """How many of the first input items ``body`` lacks, because the provider has kept them
    (``Provider.count_held_items``)."""

    def ignore(self, *names: str) -> None:
        """Report request fields that the upstream does not support.

        The response header ``x-floway-ignored`` lists them for the client. Each name is listed once. Fields that the
        client did not send, or sent as null, are not listed, nor are those that the gateway implements itself.

        :param names: in the form of ``param`` in errors: ``temperature``, ``reasoning.effort``, ``tools[0]``.
        :raises GatewayError: 400, the client requires one of them (``ClientRequest.required_fields``).
        """
        request_body, required = self.attempt.request.body, self.attempt.request.required_fields
        for name in names:
            if name in required:
                message = f"{required[name]} is not supported by the upstream of this model."
                raise GatewayError(400, message, param=name, code="unsupported_parameter")
            top_field = name.partition(".")[0].partition("[")[0]
            if name in GATEWAY_FIELDS or request_body.get(top_field) is None or name in self.attempt.ignored:
                continue
            self.attempt.ignored.append(name)


@dataclass
class ForwardContext(ResponsesRequestContext):
    """A request of another API than the Responses API, about to be forwarded to the upstream. ``body`` is empty."""

    method: str = "POST"
    target: str = ""
    """Path and query, to be appended to the base URL of the upstream: ``/embeddings``."""
    content: bytes = b""
    """The client's body, with the upstream's name of the model."""


@dataclass
class SnapshotCommitContext:
    """A snapshot about to be stored, inside the transaction that stores it."""

    attempt: AttemptContext
    response_id: str
    """The id by which the client can continue the conversation."""
    mode: str
    """``append``: the response extends the history. ``replace``: it replaces the history by a compacted one."""
    metadata: dict[str, Any]
    """The plugin's own JSON object for this snapshot, initially a copy of the previous snapshot's."""
