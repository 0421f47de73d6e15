"""Providers: the base class of all kinds of upstreams, and the types of their responses."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from floway_core.contexts import AttemptContext, ClientConnection, ForwardContext, ResponsesRequestContext, Upstream
from floway_core.protocol.failures import read_failure_body
from floway_core.upstream_info import (
    AccountDetails,
    ConnectionOptions,
    ForwardedPath,
    Model,
    Problem,
    Quota,
    SignIn,
    UpstreamOption,
)

__all__ = [
    "MAX_DISPATCHES",
    "UNREADABLE_REASONING",
    "AccountDetails",
    "ConnectionOptions",
    "ErrorResponse",
    "ForwardedPath",
    "IterableBody",
    "Model",
    "Problem",
    "Provider",
    "Quota",
    "ResponseBody",
    "SignIn",
    "UpstreamOption",
    "UpstreamResponse",
]

MAX_DISPATCHES = 4
"""The largest number of requests that one attempt sends to its upstream."""


UNREADABLE_REASONING = "invalid_encrypted_content"
"""The error code of the Responses API for reasoning that belongs to another account, or is damaged."""


class ResponseBody(ABC):
    """The body of an upstream's answer, as it arrives."""

    @abstractmethod
    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        """Return the bytes that have arrived; wait for the first of them.

        :param timeout: seconds to wait. With 0 the call never blocks, and must return all bytes that have arrived: the
            caller reads again when the descriptor becomes readable, or after up to a second.
        :param client: also watch this connection while waiting.
        :returns: bytes; ``b""`` after a complete body; None if nothing arrived in time.
        :raises UpstreamBroken: the body ended early.
        :raises ClientDisconnected: ``client`` has disconnected.
        """

    @property
    def has_ended(self) -> bool:
        """Whether it is known that ``read`` has returned everything. If not, some streams end up to a second late."""
        return False

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when ``read(0)`` may return something; None if there is none.

        A caller that waits for the descriptor must watch the client itself; ``read(0)`` does not.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Release the upstream connection. It is reused if the body was read to its end."""


class IterableBody(ResponseBody):
    """A complete body: a list of byte strings.

    For a body that a provider generates while it is sent, see ``floway_core.upstream.GeneratedBody``.
    """

    def __init__(self, chunks: Collection[bytes], on_close: Callable[[], None] | None = None) -> None:
        """:param on_close: called when the body is closed.
        :raises TypeError: ``chunks`` is an iterator, which may block.
        """
        if not isinstance(chunks, Collection):
            raise TypeError("IterableBody takes a list of byte strings; GeneratedBody takes generators")
        self._content = b"".join(chunks)
        self._on_close = on_close

    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        """Return all bytes; ``b""`` when they have been read."""
        content, self._content = self._content, b""
        return content

    def close(self) -> None:
        """Call ``on_close``."""
        if self._on_close:
            self._on_close()


@dataclass
class UpstreamResponse:
    """An upstream's answer to one dispatch. Status and headers are complete; the body may still be arriving."""

    status: int
    headers: Sequence[tuple[str, str]]
    """Names in lower case, in the order received."""
    body: ResponseBody
    dialect: str = "responses"
    """The format of the body of a 2xx answer. If it is another one than that of the Responses API, it has to be the
    client's (``ClientRequest.dialect``). Then the client gets the body as it is, and nothing of it is stored."""

    def header(self, name: str) -> str | None:
        """The first value of the header ``name`` (lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(frozen=True)
class ErrorResponse:
    """An upstream's answer whose status is not 2xx, with its whole body."""

    status: int
    headers: Sequence[tuple[str, str]]
    """Names in lower case, in the order received."""
    content: bytes


class Provider(ABC):
    """One kind of upstream. A single object serves all upstreams of its kind, from many threads at once."""

    kind: str = ""
    """Unique lower-case name of the provider; its commands and settings start with it."""

    dialect: str = "responses"
    """The name of the API format that its upstreams speak."""

    underscore_headers: Collection[str] = ()
    """Names of the headers with an underscore that the provider reads, in lower case, such as ``trace_id``.

    The gateway drops all other such headers, because WSGI and many proxies cannot tell ``trace_id`` from ``trace-id``.
    ``ClientRequest.headers`` has a declared header under exactly this name. If a client sends both spellings, prefer
    the one with the hyphen.
    """

    account_details = AccountDetails()
    """The parts of the answers that only some clients may see."""

    connection_options: ConnectionOptions | None = None
    """The options of ``floway upstreams add``; None for a provider without options, or with its own command."""

    signs_in: bool = False
    """Whether the operator adds an upstream, or renews its credentials, by signing in with a browser. Then the provider
    implements ``begin_sign_in`` and ``finish_sign_in``."""

    accepts_shallow_copy: bool = False
    """Whether ``ctx.body`` may be a shallow copy: the provider adds, replaces and removes fields, but changes neither
    the lists and objects in them nor the items of ``input``.

    Then tools and history are not copied for each dispatch, and ``input`` is a sequence whose items are parsed when
    they are first read. ``floway_core.upstream.keyed.encode_body`` writes those that nobody has read as they are.
    """

    forwarded_paths: Sequence[ForwardedPath] = ()
    """Paths of other APIs that its upstreams serve. The gateway serves them with its keys, limits and routing, and
    calls ``forward``."""

    @abstractmethod
    def list_models(self, upstream: Upstream) -> Sequence[Model]:
        """Return the models that ``upstream`` serves.

        Routing calls it for every request. A provider that fetches the list over the network must cache it, and must
        override ``cached_models`` and ``fetch_models``.

        :raises GatewayError: the list is not available. Routing still considers other upstreams.
        """

    def cached_models(self, upstream: Upstream) -> Sequence[Model] | None:
        """Return the models of ``upstream`` without waiting; None if there is no list yet.

        An old list, or the last failure, is sufficient; renew it in the background. So an upstream that does not answer
        does not delay requests that others can serve. The gateway calls ``list_models`` in a separate thread only while
        there is no list yet, and for models that no list contains.

        :raises GatewayError: the last attempt to fetch the list failed.
        """
        return self.list_models(upstream)

    def fetch_models(self, upstream: Upstream) -> Sequence[Model]:
        """Fetch the models from ``upstream`` now, without a cache: the operator tests the upstream.

        :raises GatewayError: the list is not available.
        """
        return self.list_models(upstream)

    def count_held_items(self, ctx: AttemptContext) -> int:
        """Return how many of the first input items the gateway need not prepare: the provider has kept what it made of
        them for an earlier request, or its connection to the upstream has.

        The gateway calls it after ``on_attempt_start`` if the input begins with the history of a response
        (``ctx.continues``). That history begins with the input of the request for this response
        (``AttemptContext.response_id``), item by item, unless this response is a compaction. In the first dispatch
        ``ResponsesRequestContext.body`` then lacks these items; later ones have the whole input.
        """
        return 0

    @abstractmethod
    def send(self, ctx: ResponsesRequestContext) -> UpstreamResponse:
        """Send one request to the upstream. Return as soon as status and headers of the answer have arrived.

        The body of a 2xx answer is a stream of Responses events, or one complete response as JSON; the gateway converts
        it to the form that the client requested. The gateway relays any other status to the client as an error.

        :raises GatewayError: there is no answer to relay (``floway_core.upstream`` raises suitable errors).
        :raises ClientDisconnected: the client disconnected before the upstream answered.
        """

    def forward(self, ctx: ForwardContext) -> UpstreamResponse:
        """Send a request to one of ``forwarded_paths`` to the upstream, and return as ``send``.

        No hook has run. ``ctx.headers`` has the client's ``content-type`` and ``accept``. A 2xx answer reaches the
        client byte for byte as it arrives; ``handle_error_response`` is called for others.

        :raises GatewayError: there is no answer to relay.
        :raises ClientDisconnected: the client disconnected before the upstream answered.
        """
        raise NotImplementedError

    def count_tokens(self, ctx: ResponsesRequestContext) -> int | None:
        """Let the upstream count the input tokens of a request.

        The hooks have prepared ``ctx`` as for a dispatch. If this fails, the gateway answers with an estimate.

        :returns: the number; None if the upstream cannot count.
        :raises GatewayError: the upstream failed.
        """
        return None

    def supports_compaction(self, upstream: Upstream) -> bool:
        """Whether ``upstream`` accepts a ``compaction_trigger`` item and answers with a ``compaction`` item.

        If it does not, the gateway asks the model for a summary when a client wants to compact.
        """
        return False

    def find_problem(self, upstream: Upstream) -> Problem | None:
        """Return why ``upstream`` cannot serve now, such as "signed out" or "quota used up until ...".

        ``/readyz`` calls it often, and everybody may read the answer. Use no network.

        :returns: None if nothing is wrong.
        :raises GatewayError: its message is the reason.
        """
        return None

    def read_quotas(self, upstream: Upstream) -> Sequence[Quota]:
        """Return the limits of the account of ``upstream``, as they were reported last. Use no network.

        :raises GatewayError: they cannot be read.
        """
        return ()

    def begin_sign_in(self) -> SignIn:
        """Begin a sign-in. Use no network.

        :raises GatewayError: no sign-in is possible.
        """
        raise NotImplementedError

    def finish_sign_in(self, state: str, pasted: str, name: str | None) -> Upstream:
        """Finish a sign-in, and store its account as an upstream.

        One account has one upstream: if it has one already, that gets the new credentials.

        :param state: that of ``begin_sign_in``. Another worker may have begun.
        :param pasted: what the operator has pasted: the URL that the browser ended on.
        :param name: the name of the upstream; None: that of the account's upstream, or one that the provider makes.
        :raises GatewayError: 400 with the param ``pasted``, the text is not that URL or the sign-in has failed; 409,
            the name belongs to another account, or the account to another upstream; 503, the server does not answer.
        """
        raise NotImplementedError

    def base_url(self, upstream: Upstream) -> str | None:
        """Return the URL of ``upstream``, or None.

        ``floway doctor`` sends a request without credentials there, to test the connection and compare the clocks.
        """
        return None

    def handle_error_response(self, ctx: ResponsesRequestContext, response: ErrorResponse) -> bool:
        """Try to fix the cause of an error answer, for example by renewing a token.

        The gateway calls it for every answer that is not 2xx. One attempt has at most ``MAX_DISPATCHES`` dispatches.

        :returns: True to dispatch the request once more; False to relay ``response``.
        :raises GatewayError: relay this error instead.
        """
        return False

    def refuses_reasoning(self, ctx: ResponsesRequestContext, response: ErrorResponse) -> bool:
        """Return whether an error answer means that the upstream cannot read the reasoning in the input.

        Then the gateway dispatches the request once more, without reasoning: the model loses its earlier thoughts, but
        the conversation continues. Reasoning that certainly belongs to another account is removed before the first
        dispatch.
        """
        failure = read_failure_body(response.content, response.status) if response.status == 400 else None
        return failure is not None and failure.code == UNREADABLE_REASONING
