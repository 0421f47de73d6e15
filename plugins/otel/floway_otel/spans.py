"""Build the spans of a request when it has ended: one for the request, with one child for each attempt."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv._incubating.attributes import openai_attributes as openai
from opentelemetry.semconv.attributes import error_attributes as errors
from opentelemetry.semconv.attributes import http_attributes as http
from opentelemetry.semconv.attributes import server_attributes as server
from opentelemetry.trace import SpanKind

from floway_core.protocol.items import TOOL_CALL_TYPES
from floway_core.protocol.usage import NO_TOKENS
from floway_core.results import AttemptResult, EndedAttempt, RequestResult
from floway_otel import __version__
from floway_otel.finished_span import FinishedSpan, Template, make_template
from floway_otel.providers import Server, find_server
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

FINISH_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""By the reason why a response is incomplete; others are used unchanged."""

TOOL_CALLS = frozenset(TOOL_CALL_TYPES)

NO_CONTENT: Mapping[str, str] = {}


class Attempt(NamedTuple):
    """An attempt that has ended."""

    ctx: EndedAttempt
    result: AttemptResult
    server: Server
    response_model: str | None
    """The upstream's name of the model that has responded; clients may see an alias."""
    error: str | None
    content: Mapping[str, str] = NO_CONTENT
    """Attributes with texts of the conversation."""


def read_attempt(ctx: EndedAttempt, result: AttemptResult) -> Attempt:
    """Return the data of an attempt for spans and metrics."""
    model = ctx.upstream_model if result.response_model == ctx.model else result.response_model
    return Attempt(ctx, result, find_server(ctx.upstream.kind, ctx.server), model, error_type(result))


def build_spans(trace: RequestTrace, request: RequestResult, attempts: Sequence[Attempt]) -> list[FinishedSpan]:
    """Return the spans of the attempts, then the span of the request."""
    return [*(_attempt_span(trace, request, attempt) for attempt in attempts), _request_span(trace, request)]


def _attempt_span(trace: RequestTrace, request: RequestResult, attempt: Attempt) -> FinishedSpan:
    ctx, result, upstream_server, response_model, error, content = attempt
    start, own_attributes = result.started_at, _own_attributes(result, request)
    events = [(DISPATCH, int((start + seconds) * 1e9)) for seconds in result.dispatch_seconds]
    if result.first_byte_seconds is not None:
        events.append((FIRST_BYTE, int((start + result.first_byte_seconds) * 1e9)))
    if result.commit_seconds is not None:
        events.append((COMMIT, int((start + result.commit_seconds) * 1e9)))
    template = _attempt_template(
        upstream_server,
        ctx.upstream.name,
        ctx.upstream_model,
        request.streamed,
        result.outcome,
        result.status,
        error,
        response_model,
        finish_reason(result),
        result.tier,
    )
    return FinishedSpan(
        template,
        trace.span_of_attempt(ctx.id),
        trace.span,
        (int(start * 1e9), int((start + result.seconds) * 1e9)),
        {**own_attributes, **content} if content else own_attributes,
        events,
    )


def _request_span(trace: RequestTrace, request: RequestResult) -> FinishedSpan:
    start = request.started_at
    template = _request_template(
        request.method,
        request.route,
        request.status,
        request.dialect,
        request.key,
        request.model,
        request.attempts,
        request.streamed,
        request.outcome,
        error_type(request),
    )
    own_attributes = {REQUEST_ID: request.id}
    if request.conversation:
        own_attributes[gen_ai.GEN_AI_CONVERSATION_ID] = request.conversation
    times = int(start * 1e9), int((start + request.seconds) * 1e9)
    return FinishedSpan(template, trace.span, trace.parent, times, own_attributes, ())


# --------------------------------------------------------------------------------------------------------- attributes
@functools.lru_cache(maxsize=2048)
def _attempt_template(
    upstream_server: Server,
    upstream: str,
    model: str,
    streamed: bool,
    outcome: str,
    status: int | None,
    error: str | None,
    response_model: str | None,
    finish_reason: str | None,
    tier: str,
) -> Template:
    """Return the template of similar attempts: the attributes of the conventions for a call of a model."""
    attributes = {
        gen_ai.GEN_AI_OPERATION_NAME: CHAT,
        gen_ai.GEN_AI_PROVIDER_NAME: upstream_server.provider,
        gen_ai.GEN_AI_REQUEST_MODEL: model,
        gen_ai.GEN_AI_REQUEST_STREAM: streamed or None,
        gen_ai.GEN_AI_RESPONSE_MODEL: response_model,
        gen_ai.GEN_AI_RESPONSE_FINISH_REASONS: (finish_reason,) if finish_reason else None,
        server.SERVER_ADDRESS: upstream_server.address,
        server.SERVER_PORT: upstream_server.port,
        http.HTTP_RESPONSE_STATUS_CODE: status,
        errors.ERROR_TYPE: error,
        openai.OPENAI_RESPONSE_SERVICE_TIER: tier if upstream_server.provider == OPENAI else None,
        UPSTREAM: upstream,
        OUTCOME: outcome,
    }
    return make_template(f"{CHAT} {model}", SpanKind.CLIENT, attributes, failed=error is not None)


def _own_attributes(result: AttemptResult, request: RequestResult) -> dict[str, Any]:
    """Return the attributes of an attempt whose values rarely occur twice."""
    attributes: dict[str, Any] = {}
    if request.conversation:
        attributes[gen_ai.GEN_AI_CONVERSATION_ID] = request.conversation
    if result.response_id:
        attributes[gen_ai.GEN_AI_RESPONSE_ID] = result.response_id
    if result.first_byte_seconds is not None:
        attributes[gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = result.first_byte_seconds
    if (tokens := result.tokens) != NO_TOKENS:
        attributes[gen_ai.GEN_AI_USAGE_INPUT_TOKENS] = tokens.input
        attributes[gen_ai.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS] = tokens.cached
        attributes[gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS] = tokens.output
        attributes[gen_ai.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS] = tokens.reasoning
    return attributes


@functools.lru_cache(maxsize=2048)
def _request_template(
    method: str,
    route: str | None,
    status: int,
    dialect: str,
    key: str | None,
    model: str | None,
    attempts: int,
    streamed: bool,
    outcome: str | None,
    error: str | None,
) -> Template:
    """Return the template of similar requests: the attributes of the conventions for an HTTP server, and of Floway.

    Only attempts have token counts, so that nobody adds them up twice.
    """
    attributes = {
        http.HTTP_REQUEST_METHOD: method,
        http.HTTP_ROUTE: route,
        http.HTTP_RESPONSE_STATUS_CODE: status,
        errors.ERROR_TYPE: error,
        gen_ai.GEN_AI_OPERATION_NAME: CHAT if attempts else None,
        gen_ai.GEN_AI_REQUEST_MODEL: model,
        gen_ai.GEN_AI_REQUEST_STREAM: True if streamed and attempts else None,
        API_KEY: key,
        ATTEMPTS: attempts or None,
        DIALECT: dialect,
        OUTCOME: outcome,
    }
    failed = status >= 500 or outcome == "failed"
    return make_template(f"{method} {route}" if route else method, SpanKind.SERVER, attributes, failed=failed)


def error_type(result: AttemptResult | RequestResult) -> str | None:
    """Return the error of an attempt or a request; None if it succeeded."""
    if result.error or result.outcome in ("failed", "cut"):
        return result.error or result.outcome
    is_refused = isinstance(result, RequestResult) and result.status is not None and result.status >= 400
    return str(result.status) if is_refused else None


def finish_reason(result: AttemptResult) -> str | None:
    """Return why the model has stopped, as the conventions name it; None if it has not, or the reason is unknown."""
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
