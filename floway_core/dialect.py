"""Dialects: API formats that clients speak, with their translation from and to the Responses API.

A dialect is data and pure functions. Core owns everything around it: sockets, authentication, limits, routing, the
relay. A plugin supplies its dialects with the hook ``register_dialects``. The Responses API is core's own dialect.
"""

from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from floway_core.contexts import ClientRequest, DialectRequest
from floway_core.errors import GatewayError
from floway_core.protocol import sse
from floway_core.protocol.failures import Failure
from floway_core.provider import Model

__all__ = [
    "JSON_ARRAY",
    "NO_CLAIMS",
    "AnswerReader",
    "Claims",
    "Dialect",
    "DialectRequest",
    "ErrorAnswer",
    "Operation",
    "ReadRequest",
    "Route",
    "StreamFraming",
    "Translator",
]


class Operation(Enum):
    """The operation of a route."""

    RESPOND = "respond"
    COMPACT = "compact"
    COUNT_TOKENS = "count_tokens"
    LIST_MODELS = "list_models"
    GET_MODEL = "get_model"
    OPEN_WEBSOCKET = "open_websocket"
    """Each message is a request of the ``RESPOND`` route at the same path. If the dialect is not the Responses API (or
    a subclass of it), core refuses the WebSocket with 426, so that clients send a POST request at once."""

    @property
    def has_body(self) -> bool:
        """Whether its requests have a JSON body."""
        return self in (Operation.RESPOND, Operation.COMPACT, Operation.COUNT_TOKENS)


@dataclass(frozen=True)
class Route:
    """A path that a dialect serves."""

    rule: str
    """The path, with variable parts as in Flask: ``/v1beta/models/<model>:generateContent``. Of a ``GET_MODEL`` route
    the part ``<path:model>`` is the id of the model."""
    operation: Operation
    methods: tuple[str, ...] = ()
    """HTTP methods; empty for the default: POST for a request with a body, else GET."""
    stream: bool | None = None
    """Whether this path always streams, or never does; None if ``ReadRequest.stream`` decides."""

    @property
    def http_methods(self) -> tuple[str, ...]:
        """The methods, with the default instead of an empty tuple."""
        return self.methods or (("POST",) if self.operation.has_body else ("GET",))


@dataclass(frozen=True)
class Claims:
    """Identifies requests of this dialect on a path that several dialects serve, such as ``GET /v1/models``.

    A request belongs to the dialect if it has one of these headers or query parameters, with any value. Without claims
    a dialect gets the requests that no other dialect claims. Floway does not start if two dialects share a path and
    neither or both have the same claim.
    """

    headers: tuple[str, ...] = ()
    """Names in lower case."""
    parameters: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.headers or self.parameters)

    def match(self, headers: Container[str], query: Container[str]) -> bool:
        """Return whether a request has one of the claimed headers or parameters.

        :param headers: the names of its headers in lower case, including those with credentials.
        :param query: the names of its query parameters, including those with a key.
        """
        return any(name in headers for name in self.headers) or any(name in query for name in self.parameters)


NO_CLAIMS = Claims()


@dataclass
class ReadRequest:
    """A request in the form of the Responses API, as ``Dialect.read`` returns it."""

    body: dict[str, Any]
    """A request body of the Responses API: ``model``, ``input``, ``tools`` and so on."""
    stream: bool = False
    """Whether the client wants a stream. ``Route.stream`` takes precedence. Core sets ``body["stream"]``."""
    conversation_hint: str | None = None
    """A value that identifies the client's conversation; see ``ClientRequest.conversation_hint``."""
    restores_reasoning: bool = False
    """Whether the client omits the reasoning; see ``ClientRequest.restores_reasoning``."""
    required_fields: Mapping[str, str] = field(default_factory=dict)
    """Fields of ``body`` that no upstream may ignore; see ``ClientRequest.required_fields``."""
    dropped_fields: Sequence[str] = ()
    """Fields of the client's request that ``body`` lacks; see ``ClientRequest.dropped_fields``."""
    untranslatable: GatewayError | None = None
    """The error if the Responses API cannot express the request; see ``ClientRequest.untranslatable``."""


@dataclass(frozen=True)
class ErrorAnswer:
    """An error in the form of a dialect."""

    status: int
    """HTTP status, 400 to 599."""
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers. Core adds those of the error (``retry-after`` and the like) and the request id."""
    content_type: str = "application/json"


@dataclass(frozen=True)
class StreamFraming:
    """The form of a stream without events: ``opening``, its elements with ``separator`` between them, ``closing``.

    Translators and upstreams still write events; the data of each becomes one element. So both forms of a stream
    have the same contents, also when an upstream's answer is passed through.
    """

    content_type: str
    opening: bytes
    separator: bytes
    closing: bytes
    """Missing only if the connection breaks."""
    keepalive: bytes
    """Sent while the upstream is silent. It may occur before the opening and around every element."""


JSON_ARRAY = StreamFraming("application/json; charset=utf-8", b"[", b",\n", b"]\n", b"\r\n")
"""A stream that is one JSON array, whose elements arrive one after the other."""


class Translator(Protocol):
    """Converts the events of one stream from one format to another, without I/O. It lives as long as the stream.

    If a method raises, the stream ends with ``failure``, and the log names the dialect.
    """

    def feed(self, block: bytes) -> bytes:
        """Convert events.

        If the upstream sends an item without deltas, only ``response.output_item.done`` contains it.

        :param block: one or more complete events, perhaps with comments between them.
        :returns: the converted events; ``b""`` if there is nothing to send yet.
        """

    def end(self) -> bytes:
        """Return further events after the input has ended. Called once, unless ``failure`` was called."""

    def failure(self, error: GatewayError) -> bytes:
        """Return the events that report a failed stream to the client. They are the last ones."""


class AnswerReader(ABC):
    """Reads an upstream's answer that is passed through to the client, for limits, log and metrics."""

    terminal: str | None = None
    """``response.completed``, ``response.incomplete`` or ``response.failed``; None until the answer has ended."""
    has_content: bool = False
    """Whether any content has arrived. Until then another upstream may be tried if this one fails."""
    response: dict[str, Any]
    """The data of the answer so far, in the form of a Responses object: ``status``, ``usage``, ``service_tier``."""
    failure: Failure | None = None
    """The failure that the answer reports."""

    def __init__(self) -> None:
        self.response = {}

    @abstractmethod
    def feed(self, block: bytes) -> None:
        """Read one complete event or more of a stream."""

    def end(self) -> None:  # noqa: B027 - optional
        """Handle the end of a stream. Set ``terminal`` if the answer is complete without a last event."""

    @abstractmethod
    def read(self, content: bytes) -> None:
        """Read an answer that was not streamed, and set ``terminal``.

        :raises ValueError: it is not an answer in this dialect.
        """


class Dialect(ABC):
    """An API format that clients speak. One object serves all requests, from many threads at once.

    Override the methods that its routes need: ``read`` and ``response`` for ``RESPOND``, and ``translator`` if it
    streams; ``compaction``; ``read`` and ``token_count``; ``models``; ``model``. Floway does not start if one is
    missing.
    """

    name: str = ""
    """Unique lower-case name, for the log, ``ClientRequest.dialect`` and ``Provider.dialect``."""
    key_headers: Sequence[str] = ()
    """Headers, in lower case, in which clients send the API key instead of ``Authorization: Bearer``. No plugin sees
    them."""
    key_parameters: Sequence[str] = ()
    """Query parameters in which clients send the API key. They are never logged, and no plugin sees them."""
    prefixes: Sequence[str] = ()
    """Prefixes of paths whose errors have the form of this dialect, also without a route: ``/v1beta``.
    The paths of its own routes need none."""
    claims: Claims = NO_CLAIMS
    """Distinguishes its requests from those of other dialects on the same path."""
    request_id_header: str | None = None
    """A further header with the id of the request, in addition to ``x-request-id``; in lower case."""
    content_type: str = "text/event-stream; charset=utf-8"
    """The media type of its streams of events."""
    keepalive: bytes = sse.KEEPALIVE
    """Sent while the upstream is silent."""
    done: bytes = b""
    """Sent after the terminal event of a successful response."""
    keeps_original: bool = True
    """Whether ``ClientRequest.original`` is stored until the answer has ended; its ``raw`` until a stream begins."""

    @abstractmethod
    def routes(self) -> Iterable[Route]:
        """Return the paths of the dialect."""

    # ------------------------------------------------------------------------------------------------------ requests
    def read(self, request: DialectRequest) -> ReadRequest:
        """Convert a request to one of the Responses API.

        :raises GatewayError: 400, with the path of the wrong field as ``param``: ``messages[3].content``.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------------- answers
    def translator(self, client_request: ClientRequest) -> Translator | None:
        """Return the translator of the Responses API's events for the client; None to send them unchanged.

        Called once for each stream.
        """
        return None

    def framing(self, client_request: ClientRequest) -> StreamFraming | None:
        """Return the framing that the client has requested, such as ``JSON_ARRAY``; None for server-sent events.

        A framing replaces ``content_type`` and ``keepalive``. It is also applied to ``done``.
        """
        return None

    def response(self, client_request: ClientRequest, response: dict[str, Any]) -> dict[str, Any]:
        """Convert a complete response object."""
        raise NotImplementedError

    def compaction(self, client_request: ClientRequest, response: dict[str, Any]) -> dict[str, Any]:
        """Convert a complete response object whose output is a compacted history."""
        raise NotImplementedError

    def token_count(self, request: DialectRequest, count: int) -> dict[str, Any]:
        """Return the answer to a request to count its input tokens."""
        raise NotImplementedError

    def estimate_tokens(self, client_request: ClientRequest) -> int | None:
        """Estimate the input tokens of a request whose upstream cannot count; None for core's estimate."""
        return None

    def models(self, request: DialectRequest, models: Sequence[Model]) -> dict[str, Any]:
        """Return the list of models, or the page of it that the query selects.

        :param models: all models that the client may use; their ids are the names that clients use.
        """
        raise NotImplementedError

    def model(self, request: DialectRequest, model: Model) -> dict[str, Any]:
        """Return one model."""
        raise NotImplementedError

    def error(self, error: GatewayError, request_id: str) -> ErrorAnswer:
        """Convert an error of any kind: of ``read``, of core, of the upstream. The default is OpenAI's error object.

        A dialect of another form uses ``status``, ``type``, ``code``, ``message`` and ``param``. If
        ``error.upstream_body(self.name)`` is not None, it is the error of an upstream that speaks this dialect.
        """
        return ErrorAnswer(error.status, error.content())

    def reader(self, client_request: ClientRequest) -> AnswerReader | None:
        """Return the reader for an upstream's answer that is passed through; None if that is not supported."""
        return None
