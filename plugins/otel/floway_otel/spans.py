"""The spans of one request, made when it has ended: one for the request, and below it one for each attempt."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv._incubating.attributes import openai_attributes as openai
from opentelemetry.semconv.attributes import error_attributes as errors
from opentelemetry.semconv.attributes import http_attributes as http
from opentelemetry.semconv.attributes import server_attributes as server
from opentelemetry.trace import SpanKind, Status, StatusCode

from floway_core.contexts import AttemptResult, EndedAttempt, RequestResult
from floway_core.protocol.usage import NO_TOKENS
from floway_otel import __version__
from floway_otel.providers import find_server
from floway_otel.trace_context import RequestTrace

SCOPE = InstrumentationScope("floway_otel", __version__)

CHAT = gen_ai.GenAiOperationNameValues.CHAT.value
OPENAI = gen_ai.GenAiProviderNameValues.OPENAI.value

DISPATCH, FIRST_BYTE, COMMIT = "floway.dispatch", "floway.first_byte", "floway.commit"
"""The events of an attempt."""

API_KEY = "floway.api_key.name"
ATTEMPTS = "floway.attempts"
DIALECT = "floway.dialect"
OUTCOME = "floway.outcome"
REQUEST_ID = "floway.request.id"
UPSTREAM = "floway.upstream.name"

OK, FAILED = Status(StatusCode.UNSET), Status(StatusCode.ERROR)

FINISH_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""By the reason for which a response is incomplete; others stay as they are."""

VARIED = frozenset(
    {
        gen_ai.GEN_AI_CONVERSATION_ID,
        gen_ai.GEN_AI_RESPONSE_ID,
        gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
        gen_ai.GEN_AI_INPUT_MESSAGES,
        gen_ai.GEN_AI_OUTPUT_MESSAGES,
        REQUEST_ID,
    }
)
"""Attributes whose values hardly ever come twice."""

TOOL_CALLS = frozenset({"function_call", "custom_tool_call"})
"""Types of the items that leave the client something to do."""


class Attempt(NamedTuple):
    """An attempt that has ended."""

    ctx: EndedAttempt
    result: AttemptResult
    content: Mapping[str, str]
    """Attributes with texts of the conversation."""


class SpanBuilder:
    """Makes spans as the environment wants them."""

    def __init__(self, resource: Resource, limits: SpanLimits) -> None:
        self._resource = resource
        length = limits.max_span_attribute_length
        count = limits.max_span_attributes
        self._limits = None if length is None and (count is None or count >= 128) else (count, length)

    def build(self, trace: RequestTrace, request: RequestResult, attempts: Sequence[Attempt]) -> list[ReadableSpan]:
        """Return the spans of the attempts, then that of the request."""
        spans = [self._attempt_span(trace, request, attempt) for attempt in attempts]
        spans.append(self._request_span(trace, request))
        return spans

    def _attempt_span(self, trace: RequestTrace, request: RequestResult, attempt: Attempt) -> ReadableSpan:
        ctx, result, content = attempt
        attributes = attempt_attributes(ctx, result, request)
        attributes.update(content)
        start = result.started_at
        events = [Event(DISPATCH, None, _nanoseconds(start + seconds)) for seconds in result.dispatch_seconds]
        for name, after in ((FIRST_BYTE, result.first_byte_seconds), (COMMIT, result.commit_seconds)):
            if after is not None:
                events.append(Event(name, None, _nanoseconds(start + after)))
        return ReadableSpan(
            name=f"{CHAT} {ctx.upstream_model}",
            context=trace.span_of_attempt(ctx.id),
            parent=trace.span,
            resource=self._resource,
            attributes=self._bounded(attributes),
            events=events,
            kind=SpanKind.CLIENT,
            status=FAILED if errors.ERROR_TYPE in attributes else OK,
            start_time=_nanoseconds(start),
            end_time=_nanoseconds(start + result.seconds),
            instrumentation_scope=SCOPE,
        )

    def _request_span(self, trace: RequestTrace, request: RequestResult) -> ReadableSpan:
        start = request.started_at
        has_failed = request.status >= 500 or request.outcome == "failed"
        return ReadableSpan(
            name=f"{request.method} {request.route}" if request.route else request.method,
            context=trace.span,
            parent=trace.parent,
            resource=self._resource,
            attributes=self._bounded(request_attributes(request)),
            kind=SpanKind.SERVER,
            status=FAILED if has_failed else OK,
            start_time=_nanoseconds(start),
            end_time=_nanoseconds(start + request.seconds),
            instrumentation_scope=SCOPE,
        )

    def _bounded(self, attributes: dict[str, Any]) -> Mapping[str, Any]:
        if self._limits is None:
            return attributes
        count, length = self._limits
        return BoundedAttributes(count, attributes, max_value_len=length)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


# --------------------------------------------------------------------------------------------------------- attributes
def attempt_attributes(ctx: EndedAttempt, result: AttemptResult, request: RequestResult) -> dict[str, Any]:
    """Return the attributes of an attempt: those of the conventions for a call of a model."""
    provider, address, port = find_server(ctx.upstream.kind, ctx.server)
    attributes: dict[str, Any] = {
        gen_ai.GEN_AI_OPERATION_NAME: CHAT,
        gen_ai.GEN_AI_PROVIDER_NAME: provider,
        gen_ai.GEN_AI_REQUEST_MODEL: ctx.upstream_model,
        UPSTREAM: ctx.upstream.name,
        OUTCOME: result.outcome,
    }
    if request.streamed:
        attributes[gen_ai.GEN_AI_REQUEST_STREAM] = True
    if address:
        attributes[server.SERVER_ADDRESS] = address
        attributes[server.SERVER_PORT] = port
    if request.conversation:
        attributes[gen_ai.GEN_AI_CONVERSATION_ID] = request.conversation
    if result.status is not None:
        attributes[http.HTTP_RESPONSE_STATUS_CODE] = result.status
    if error := error_type(result):
        attributes[errors.ERROR_TYPE] = error
    _add_response(attributes, ctx, result)
    if result.tier and provider == OPENAI:
        attributes[openai.OPENAI_RESPONSE_SERVICE_TIER] = result.tier
    return attributes


def _add_response(attributes: dict[str, Any], ctx: EndedAttempt, result: AttemptResult) -> None:
    """Add what is known of the response."""
    if result.response_id:
        attributes[gen_ai.GEN_AI_RESPONSE_ID] = result.response_id
    if model := response_model(ctx, result):
        attributes[gen_ai.GEN_AI_RESPONSE_MODEL] = model
    if reason := finish_reason(result):
        attributes[gen_ai.GEN_AI_RESPONSE_FINISH_REASONS] = (reason,)
    if result.first_byte_seconds is not None:
        attributes[gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = result.first_byte_seconds
    if (tokens := result.tokens) != NO_TOKENS:
        attributes[gen_ai.GEN_AI_USAGE_INPUT_TOKENS] = tokens.input
        attributes[gen_ai.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS] = tokens.cached
        attributes[gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS] = tokens.output
        attributes[gen_ai.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS] = tokens.reasoning


def error_type(result: AttemptResult | RequestResult) -> str | None:
    """Return the error of an attempt or a request; None if it succeeded."""
    if result.error or result.outcome in ("failed", "cut"):
        return result.error or result.outcome
    is_refused = isinstance(result, RequestResult) and result.status is not None and result.status >= 400
    return str(result.status) if is_refused else None


def response_model(ctx: EndedAttempt, result: AttemptResult) -> str | None:
    """Return the model that has responded. Clients see their own name of it, which may be an alias."""
    return ctx.upstream_model if result.response_model == ctx.model else result.response_model


def finish_reason(result: AttemptResult) -> str | None:
    """Return why the model has stopped, in a word of the conventions; None if it has not, or it is not known."""
    if result.outcome == "incomplete":
        reason = result.incomplete_reason
        return FINISH_REASONS.get(reason, reason) if reason else None
    if result.outcome == "failed":
        return "error" if result.response_id else None
    if result.outcome != "completed":
        return None
    if not result.output_types:
        return None
    return "stop" if TOOL_CALLS.isdisjoint(result.output_types) else "tool_call"


def request_attributes(request: RequestResult) -> dict[str, Any]:
    """Return the attributes of a request: those of the conventions for an HTTP server, and what it asks for.

    Tokens are counted at the attempts only, so that nobody adds them up twice.
    """
    attributes: dict[str, Any] = {
        http.HTTP_REQUEST_METHOD: request.method,
        http.HTTP_RESPONSE_STATUS_CODE: request.status,
        REQUEST_ID: request.id,
        DIALECT: request.dialect,
    }
    if request.attempts:
        attributes[gen_ai.GEN_AI_OPERATION_NAME] = CHAT
        attributes[ATTEMPTS] = request.attempts
    optional = {
        http.HTTP_ROUTE: request.route,
        gen_ai.GEN_AI_REQUEST_MODEL: request.model,
        gen_ai.GEN_AI_CONVERSATION_ID: request.conversation,
        API_KEY: request.key,
        OUTCOME: request.outcome,
        errors.ERROR_TYPE: error_type(request),
    }
    attributes.update((name, value) for name, value in optional.items() if value)
    if request.streamed and request.attempts:
        attributes[gen_ai.GEN_AI_REQUEST_STREAM] = True
    return attributes
