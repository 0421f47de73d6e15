"""Report the results of requests and their attempts to observers."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from floway_core.contexts import TRACE_HEADERS
from floway_core.engine.trace import AttemptTrace
from floway_core.protocol.usage import NO_TOKENS
from floway_core.results import AttemptResult, EndedAttempt, RequestResult
from floway_core.runtime.observed import with_output
from floway_core.runtime.observers import Observers
from floway_core.web.request_log import CLIENT_CLOSED_REQUEST, MAX_LOGGED_CHARACTERS, RequestLogEntry

_TRACE_VARIABLES = {f"HTTP_{name.upper()}": name for name in TRACE_HEADERS}


def trace_headers(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return those of ``TRACE_HEADERS`` that a client has sent, from the WSGI environment."""
    return {name: environ[variable] for variable, name in _TRACE_VARIABLES.items() if variable in environ}


def result_reporter(observers: Observers) -> Callable[[RequestLogEntry], None]:
    """Return the callback that reports a request that has ended."""

    def report(entry: RequestLogEntry) -> None:
        if entry.is_handed_over:  # reported when its background response has ended
            return
        clock = time.time() - time.monotonic()
        response = entry.trace.events.response if entry.trace.events else {}
        results = []
        for number, attempt in enumerate(entry.trace.attempts, 1):
            is_last = number == len(entry.trace.attempts)
            result = _result_of_last(entry, attempt, response, clock) if is_last else _failed(attempt, clock)
            results.append((_ended_attempt(entry, attempt, number), result))
        observers.end_request(results, _request_result(entry, response, clock))

    return report


def _ended_attempt(entry: RequestLogEntry, attempt: AttemptTrace, number: int) -> EndedAttempt:
    candidate = attempt.candidate
    return EndedAttempt(
        id=f"{entry.id}.{number}",
        request_id=entry.id,
        key=entry.key or "",
        dialect=entry.dialect,
        model=candidate.model.id,
        upstream_model=candidate.upstream_name,
        upstream=candidate.upstream,
        server=attempt.context.server if attempt.context else None,
    )


def _failed(attempt: AttemptTrace, clock: float) -> AttemptResult:
    """Return the result of an attempt that was followed by another one.

    :param clock: Unix time minus monotonic time, in seconds.
    """
    return AttemptResult(
        outcome="failed",
        status=attempt.status,
        error=attempt.error,
        tokens=NO_TOKENS,
        tier="",
        seconds=(attempt.ended or attempt.started) - attempt.started,
        first_byte_seconds=None,
        dispatches=attempt.dispatches,
        started_at=attempt.started + clock,
        dispatch_seconds=_dispatch_seconds(attempt),
    )


def _dispatch_seconds(attempt: AttemptTrace) -> list[float]:
    return [at - attempt.started for at in attempt.dispatched]


def _result_of_last(
    entry: RequestLogEntry, attempt: AttemptTrace, response: Mapping[str, Any], clock: float
) -> AttemptResult:
    delay = attempt.started - entry.started
    ended = entry.duration if attempt.ended is None else attempt.ended - entry.started
    items, incomplete = response.get("output"), response.get("incomplete_details")
    result = AttemptResult(
        outcome=entry.outcome or ("cut" if entry.status == CLIENT_CLOSED_REQUEST else "failed"),
        status=attempt.status,
        error=attempt.error or entry.error,
        tokens=entry.tokens,
        tier=entry.tier,
        seconds=ended - delay,
        first_byte_seconds=None if entry.first_byte is None else entry.first_byte - delay,
        dispatches=attempt.dispatches,
        started_at=attempt.started + clock,
        dispatch_seconds=_dispatch_seconds(attempt),
        commit_seconds=None if attempt.committed is None else attempt.committed - attempt.started,
        response_id=_text(response, "id"),
        response_model=_text(response, "model"),
        incomplete_reason=_text(incomplete, "reason") if incomplete else None,
        output_types=[kind for item in items if (kind := _text(item, "type"))] if items else (),
    )
    return with_output(result, items) if items else result


def _text(fields: Any, name: str) -> str | None:
    """Return the text in a field of untrusted JSON; None if there is none."""
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) and value else None


def _conversation(entry: RequestLogEntry, response: Mapping[str, Any]) -> str | None:
    if "conversation" in response and (conversation := _text(response["conversation"], "id")):
        return conversation
    context = entry.trace.attempts[-1].context if entry.trace.attempts else None
    return context.request.conversation_hint if context else None


def _request_result(entry: RequestLogEntry, response: Mapping[str, Any], clock: float) -> RequestResult:
    return RequestResult(
        id=entry.id,
        method=entry.method,
        route=entry.route,
        dialect=entry.dialect,
        key=entry.key,
        model=entry.model and entry.model[:MAX_LOGGED_CHARACTERS],
        upstream=entry.upstream,
        streamed=entry.streamed,
        status=entry.status,
        outcome=entry.outcome,
        error=entry.error,
        tokens=entry.tokens,
        tier=entry.tier,
        seconds=entry.duration,
        first_byte_seconds=entry.first_byte,
        attempts=len(entry.trace.attempts),
        dispatches=entry.trace.dispatches,
        started_at=entry.started + clock,
        conversation=_conversation(entry, response),
        trace_headers=entry.trace_headers,
    )
