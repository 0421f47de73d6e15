"""The results of attempts and requests, which ``on_attempt_end`` and ``on_request_end`` receive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from floway_core.contexts import Upstream
from floway_core.protocol.usage import Tokens


@dataclass(frozen=True)
class EndedAttempt:
    """An attempt that has ended, without the contents of the conversation."""

    id: str
    """As ``AttemptContext.id``."""
    request_id: str
    key: str
    """Name of the API key."""
    dialect: str
    """The API format of the client."""
    model: str
    """The model by the name that the client requested."""
    upstream_model: str
    """The model by the name that the upstream uses."""
    upstream: Upstream
    server: str | None = None
    """As ``AttemptContext.server``."""


@dataclass(frozen=True)
class AttemptResult:
    """The result of an attempt: its outcome, duration, tokens and cost."""

    outcome: str
    """``completed``, ``incomplete``, ``failed``, or ``cut`` if the client disconnected before the end."""
    status: int | None
    """HTTP status of the last answer of the upstream; None if there was none."""
    error: str | None
    """The code of the error; None if there was none."""
    tokens: Tokens
    tier: str
    """The service tier that the upstream reports; empty if it reports none."""
    seconds: float
    """From the start of the attempt until its failure, or until the last byte was sent to the client."""
    first_byte_seconds: float | None
    """Until the first byte of a stream was ready for the client; None without one."""
    dispatches: int
    started_at: float = 0.0
    """Unix time in seconds."""
    dispatch_seconds: Sequence[float] = ()
    """The time of each dispatch since the start of the attempt."""
    commit_seconds: float | None = None
    """Until the response was stored; None if it was not."""
    response_id: str | None = None
    """The id of the response, as the client sees it; None if it has none."""
    response_model: str | None = None
    """The model in the response, as the client sees it."""
    incomplete_reason: str | None = None
    """Why a response is incomplete, such as ``max_output_tokens`` or ``content_filter``."""
    output_types: Sequence[str] = ()
    """The types of the response's items, such as ``message`` and ``function_call``; empty if the answer was passed
    through in another dialect."""
    output: Sequence[Mapping[str, Any]] = ()
    """The response's items, copied when they are first read. They stay in memory as long as this object."""


@dataclass(frozen=True)
class RequestResult:
    """The result of a request: its outcome, duration, tokens and cost. Requests without an upstream have one, too."""

    id: str
    """The request id, which is also the ``x-request-id`` of the answer."""
    method: str
    route: str | None
    """The rule of the route, such as ``/v1/responses/<response_id>``; None if no route matches."""
    dialect: str
    """The API format of the client."""
    key: str | None
    """Name of the API key; None without a valid one."""
    model: str | None
    """The model in the request, whether it exists or not; at most 100 characters."""
    upstream: str | None
    """Name of the upstream of the last attempt."""
    streamed: bool
    status: int
    """HTTP status of the answer; 499 if the client disconnected before it."""
    outcome: str | None
    """As ``AttemptResult.outcome``; None if no upstream has started to answer."""
    error: str | None
    """The code of the error that the client received."""
    tokens: Tokens
    tier: str
    seconds: float
    """Until the last byte was sent, or the client has disconnected."""
    first_byte_seconds: float | None
    attempts: int
    dispatches: int
    """Requests sent to all upstreams together."""
    started_at: float = 0.0
    """Unix time in seconds."""
    conversation: str | None = None
    """The id of the conversation in the response, or else ``ClientRequest.conversation_hint``."""
    trace_headers: Mapping[str, str] = field(default_factory=dict)
    """Those of ``TRACE_HEADERS`` that the client has sent."""
