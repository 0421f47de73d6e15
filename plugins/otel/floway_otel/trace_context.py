"""Derive the ids of spans and their trace.

Ids are derived from the ids of requests and attempts. So they are known before an attempt, for an upstream that
continues the trace, and after it, when the spans are built. Nothing needs to be stored in between.
"""

import hashlib
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, Sampler
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

EMPTY = Context()
SAMPLED, NOT_SAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
SPAN_NAME = "request"
"""The span name that samplers see for all requests."""


class RequestTrace(NamedTuple):
    """The position of one request in its trace."""

    client: Context
    """The trace context in the client's headers."""
    parent: SpanContext | None
    """The span of the client; None if the trace begins here."""
    span: SpanContext
    """The span of the request."""

    @property
    def is_sampled(self) -> bool:
        """Whether its spans are exported."""
        return self.span.trace_flags is SAMPLED

    def span_of_attempt(self, attempt_id: str) -> SpanContext:
        """Return the span of an attempt of the request."""
        span = self.span
        return SpanContext(
            span.trace_id, int.from_bytes(_digest(attempt_id, 8)), False, span.trace_flags, span.trace_state
        )

    def inject(self, attempt_id: str, headers: MutableMapping[str, str]) -> None:
        """Set the headers with which an upstream continues the trace below an attempt."""
        span = NonRecordingSpan(self.span_of_attempt(attempt_id))
        propagate.inject(headers, set_span_in_context(span, self.client))


def trace_of(request_id: str, headers: Mapping[str, str], sampler: Sampler) -> RequestTrace:
    """Return the trace of a request: the client's, or a new one.

    :param headers: the client's, with names in lower case.
    """
    client = propagate.extract(headers, EMPTY) if headers else EMPTY
    remote = get_current_span(client).get_span_context() if client else None
    parent = remote if remote and remote.is_valid else None
    # Not the UUID itself: samplers select a fraction of the ids, which must be evenly distributed.
    digest = _digest(request_id, 24)
    trace_id = parent.trace_id if parent else int.from_bytes(digest[:16])
    flags, state = SAMPLED, parent.trace_state if parent else None
    if parent or sampler is not DEFAULT_ON:  # by default, the SDK samples every trace that starts here
        result = sampler.should_sample(client, trace_id, SPAN_NAME, SpanKind.SERVER)
        flags = SAMPLED if result.decision is Decision.RECORD_AND_SAMPLE else NOT_SAMPLED
        state = result.trace_state or state
    return RequestTrace(client, parent, SpanContext(trace_id, int.from_bytes(digest[16:]), False, flags, state))


def _digest(id: str, size: int) -> bytes:
    return hashlib.blake2b(id.encode(), digest_size=size).digest()
