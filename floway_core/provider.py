"""What a provider is: the base class and the types it answers with."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from floway_core.contexts import ClientConnection, ResponsesRequestContext, Upstream
from floway_core.prices import Price

MAX_DISPATCHES = 4
"""Requests that one attempt may send to its upstream."""


@dataclass(frozen=True)
class Model:
    """A model that an upstream serves."""

    id: str
    """The name clients use in ``model``."""
    owned_by: str
    created: int = 0
    """Unix time in seconds; 0 when the upstream does not say."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The upstream's own catalogue entry, for clients that ask for the catalogue in its native form."""
    upstream_name: str = ""
    """What the upstream calls it, if that is not ``id``."""
    price: Price | None = None
    """What its tokens cost, if that is known. A price table of the operator's comes first."""


class ResponseBody(ABC):
    """The bytes of an upstream's answer, as they arrive."""

    @abstractmethod
    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        """The bytes that have arrived, waiting for the first of them.

        :param timeout: seconds to wait.
        :param client: while waiting, watch this client too.
        :returns: bytes; ``b""`` once the body has ended as it should; None when nothing came in time.
        :raises UpstreamBroken: the body ended early.
        :raises ClientDisconnected: ``client`` hung up.
        """

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when ``read(0)`` may have something; None when there is none.

        Who waits for it looks after the client, too; ``read(0)`` does not.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Let go of the upstream. A connection whose body was read to its end is kept for the next request."""


class IterableBody(ResponseBody):
    """A body made by the provider itself: an iterable of byte strings, closed with the body."""

    def __init__(self, chunks: Iterable[bytes], on_close: Callable[[], None] | None = None) -> None:
        self._chunks = iter(chunks)
        self._on_close = on_close

    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        return next((chunk for chunk in self._chunks if chunk), b"")

    def close(self) -> None:
        if self._on_close:
            self._on_close()


@dataclass
class UpstreamResponse:
    """An upstream's answer to one dispatch: status and headers are here, the body may still be on its way."""

    status: int
    headers: Sequence[tuple[str, str]]
    """Names in lower case, in the order received."""
    body: ResponseBody

    def header(self, name: str) -> str | None:
        """The first value of header ``name`` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True)
class ErrorResponse:
    """An upstream's answer that is not 2xx, with its whole body."""

    status: int
    headers: Sequence[tuple[str, str]]
    """Names in lower case, in the order received."""
    content: bytes


@dataclass(frozen=True)
class AccountDetails:
    """What in an upstream's answers describes the account behind the gateway: its plan, its quota, its user.

    Clients see it only with an API key that shows the account. Names of headers and types of events may end with ``*``,
    which stands for anything. The answers of a provider that leaves all of it empty are not looked into.
    """

    headers: tuple[str, ...] = ()
    """Names of headers, in lower case."""
    needed_headers: tuple[str, ...] = ()
    """Those that ``headers`` cover, and clients need all the same."""
    response_fields: tuple[str, ...] = ()
    """Fields of response objects; clients see null in their place."""
    error_fields: tuple[str, ...] = ()
    """Fields of error objects, in error answers and in events; clients do not see them."""
    events: tuple[str, ...] = ()
    """Types of events; clients do not see them."""

    @property
    def in_bodies(self) -> bool:
        """Whether a body can tell anything of the account."""
        return bool(self.response_fields or self.error_fields or self.events)

    def covers_header(self, name: str) -> bool:
        """Whether the header ``name`` (lower case) is to be hidden."""
        return name not in self.needed_headers and _is_one_of(self.headers, name)

    def covers_event(self, kind: str) -> bool:
        """Whether events of this type are to be hidden."""
        return _is_one_of(self.events, kind)


def _is_one_of(patterns: Iterable[str], name: str) -> bool:
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in patterns)


class Provider(ABC):
    """One kind of upstream. A single object serves all upstreams of its kind, from many threads at once."""

    kind: str = ""
    """Unique name of the provider, lower case; also the first word of its commands and settings."""

    underscore_headers: Collection[str] = ()
    """Headers with an underscore in their name, in lower case, that the provider reads, such as ``trace_id``.

    All others of the kind are dropped: WSGI, and many a proxy, could not tell ``trace_id`` from ``trace-id``. These are
    in ``ClientRequest.headers`` under exactly this name, never under that with a hyphen. Look for the latter first: a
    client that sends both means it.
    """

    account_details = AccountDetails()
    """What in the answers is not every client's business."""

    @abstractmethod
    def list_models(self, upstream: Upstream) -> Sequence[Model]:
        """The models that ``upstream`` serves.

        Called for every request that has to be routed, so an answer that needs the network must be cached; see
        ``cached_models`` then.

        :raises GatewayError: the list cannot be had. Other upstreams are still considered.
        """

    def cached_models(self, upstream: Upstream) -> Sequence[Model] | None:
        """As ``list_models``, but without waiting: an old list, or the last failure, is good enough and is renewed in
        the background. None when nothing is known yet.

        A provider that asks the network overrides it, so that an upstream that does not answer holds up no request that
        others can serve. ``list_models`` is then called, in a thread of its own, when nothing is known yet, and for
        models that nobody is known to serve.

        :raises GatewayError: the last try has failed.
        """
        return self.list_models(upstream)

    def fetch_models(self, upstream: Upstream) -> Sequence[Model]:
        """As ``list_models``, but the upstream is asked now, whatever is cached: the operator wants to see it work.

        A provider with a cache overrides it.

        :raises GatewayError: as ``list_models``.
        """
        return self.list_models(upstream)

    @abstractmethod
    def send(self, ctx: ResponsesRequestContext) -> UpstreamResponse:
        """Send one request to the upstream and return as soon as its status and headers are there.

        A 2xx answer is a stream of Responses events, or one complete response as JSON; the client gets the form it
        asked for. Any other status is relayed to the client as a failure.

        :raises GatewayError: there is no answer to relay (``floway_core.upstream`` raises the fitting ones).
        :raises ClientDisconnected: the client hung up before the upstream answered.
        """

    def supports_compaction(self, upstream: Upstream) -> bool:
        """Whether ``upstream`` compacts: takes a ``compaction_trigger`` item and answers with a ``compaction`` item.

        Asked when a client wants to compact. For an upstream that does not, the gateway asks the model for a summary.
        """
        return False

    def unavailable_reason(self, upstream: Upstream) -> str | None:
        """Why ``upstream`` cannot serve now, as far as is known here: signed out, say, or used up until some time.

        Asked by ``/readyz``, which everybody may read, and often: no network, no secret and no name of an account.

        :returns: a sentence that says what is wrong and what mends it, or None.
        :raises GatewayError: its message is the sentence.
        """
        return None

    def address(self, upstream: Upstream) -> str | None:
        """The URL at which ``upstream`` is, or None. ``floway doctor`` sees by it whether there is a way, and what time
        it is there; it sends no credentials.
        """
        return None

    def handle_error_response(self, ctx: ResponsesRequestContext, refusal: ErrorResponse) -> bool:
        """Mend what made the upstream refuse, for example by renewing a token.

        Called for every answer that is not 2xx. Dispatches of one attempt are limited to ``MAX_DISPATCHES``.

        :returns: True to dispatch the request once more, False to relay the refusal.
        :raises GatewayError: relay this instead.
        """
        return False
