"""Spans that have ended, for a fast export: attributes that many spans share are encoded once."""

import functools
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope as ScopeMessage
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, SpanFlags
from opentelemetry.proto.trace.v1.trace_pb2 import Status as StatusMessage
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from floway_otel.wire import FIXED64, encode_attributes, framed, tag

# The fields of the messages, as opentelemetry/proto/trace/v1/trace.proto numbers them.
RESOURCE_SPANS, SCOPE_SPANS, SPANS = tag(1), tag(2), tag(2)
RESOURCE_ATTRIBUTE, ATTRIBUTE, EVENT, EVENT_NAME = tag(1), tag(9), tag(11), tag(2)
TRACE_STATE, PARENT_ID = tag(3), tag(4) + b"\x08"
IDS, TRACE_ID, SPAN_ID = struct.Struct(">2s16s2s8s"), tag(1) + b"\x10", tag(2) + b"\x08"
TIMES, START, END = struct.Struct("<cQcQ"), tag(7, FIXED64), tag(8, FIXED64)
EVENT_HEAD, EVENT_TIME = struct.Struct("<cQ"), tag(1, FIXED64)

KINDS = {SpanKind.SERVER: Span.SPAN_KIND_SERVER, SpanKind.CLIENT: Span.SPAN_KIND_CLIENT}
LOCAL_FLAGS = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
LOCAL_PARENT = Span(flags=LOCAL_FLAGS).SerializeToString()
REMOTE_PARENT = Span(flags=LOCAL_FLAGS | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK).SerializeToString()


class Template(NamedTuple):
    """The fields that many spans share."""

    name: str
    kind: SpanKind
    status: Status
    attributes: Mapping[str, Any]
    encoded: bytes
    """The fields as a part of the span's message. Messages are merged by joining their bytes."""


def make_template(name: str, kind: SpanKind, attributes: Mapping[str, Any], *, failed: bool) -> Template:
    """Return a template. Attributes that are None or empty are dropped."""
    present = {name: value for name, value in attributes.items() if value is not None and value != ""}
    status = Status(StatusCode.ERROR if failed else StatusCode.UNSET)
    code = StatusMessage.STATUS_CODE_ERROR if failed else StatusMessage.STATUS_CODE_UNSET
    message = Span(name=name, kind=KINDS[kind], status=StatusMessage(code=code))
    encoded = message.SerializeToString() + encode_attributes(ATTRIBUTE, present)
    return Template(name, kind, status, present, encoded)


class FinishedSpan(NamedTuple):
    """A span of a template."""

    template: Template
    context: SpanContext
    parent: SpanContext | None
    times: tuple[int, int]
    """Start and end, in Unix nanoseconds."""
    own_attributes: Mapping[str, Any]
    """The attributes of this span only."""
    events: Sequence[tuple[str, int]]
    """Name and time of the events."""

    def encode(self) -> "EncodedSpan":
        """Return the message of the span."""
        template, context, parent, (start, end), own_attributes, events = self
        trace_id, span_id, _, _, trace_state, _ = context
        parts = [
            IDS.pack(TRACE_ID, trace_id.to_bytes(16), SPAN_ID, span_id.to_bytes(8)),
            TIMES.pack(START, start, END, end),
            REMOTE_PARENT if parent and parent.is_remote else LOCAL_PARENT,
            template.encoded,
            encode_attributes(ATTRIBUTE, own_attributes),
        ]
        if parent:
            parts += PARENT_ID, parent.span_id.to_bytes(8)
        if trace_state:
            parts.append(framed(TRACE_STATE, trace_state.to_header().encode()))
        parts += [framed(EVENT, EVENT_HEAD.pack(EVENT_TIME, time) + _encode_event_name(name)) for name, time in events]
        return EncodedSpan(b"".join(parts))

    def as_readable(self, resource: Resource, scope: InstrumentationScope, limits: SpanLimits) -> ReadableSpan:
        """Return the span as an object of the SDK, for its own exporters."""
        attributes = {**self.template.attributes, **self.own_attributes}
        length = limits.max_span_attribute_length
        return ReadableSpan(
            self.template.name,
            self.context,
            self.parent,
            resource,
            BoundedAttributes(limits.max_span_attributes, attributes, max_value_len=length),
            [Event(name, None, time) for name, time in self.events],
            kind=self.template.kind,
            status=self.template.status,
            start_time=self.times[0],
            end_time=self.times[1],
            instrumentation_scope=scope,
        )


class EncodedSpan(bytes):
    """The message of a span. While it waits for its export, it is one object that the garbage collector ignores."""

    __slots__ = ()

    context = SpanContext(1, 1, False, TraceFlags(TraceFlags.SAMPLED))
    """For the SDK, which reads from it whether the span is sampled."""


@functools.lru_cache(maxsize=64)
def _encode_event_name(name: str) -> bytes:
    return framed(EVENT_NAME, name.encode())


class RequestEncoder:
    """Joins encoded spans of one resource and one scope."""

    def __init__(self, resource: Resource, scope: InstrumentationScope) -> None:
        attributes = ResourceMessage.FromString(encode_attributes(RESOURCE_ATTRIBUTE, resource.attributes))
        self._resource = ResourceSpans(resource=attributes, schema_url=resource.schema_url).SerializeToString()
        message = ScopeMessage(name=scope.name, version=scope.version or "")
        self._scope = ScopeSpans(scope=message, schema_url=scope.schema_url or "").SerializeToString()

    def encode(self, spans: Iterable[EncodedSpan]) -> bytes:
        """Return an ``ExportTraceServiceRequest``."""
        scope_spans = self._scope + b"".join([framed(SPANS, span) for span in spans])
        return framed(RESOURCE_SPANS, self._resource + framed(SCOPE_SPANS, scope_spans))
