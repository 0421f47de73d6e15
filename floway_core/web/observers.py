"""Telling observers how a request and its attempts have ended."""

from collections.abc import Callable

from floway_core.contexts import AttemptResult, EndedAttempt, RequestResult
from floway_core.engine.trace import AttemptTrace
from floway_core.protocol.usage import NO_TOKENS
from floway_core.runtime.observers import Observers
from floway_core.web.request_log import CLIENT_CLOSED_REQUEST, MAX_LOGGED_CHARACTERS, RequestLogEntry


def result_reporter(observers: Observers) -> Callable[[RequestLogEntry], None]:
    """Return the callback that reports a request that has ended."""

    def report(entry: RequestLogEntry) -> None:
        if entry.is_handed_over:  # reported when its response has ended
            return
        for number, attempt in enumerate(entry.trace.attempts, 1):
            is_last = number == len(entry.trace.attempts)
            result = _result_of_last(entry, attempt) if is_last else _failed(attempt)
            observers.end_attempt(_ended_attempt(entry, attempt, number), result)
        observers.end_request(_request_result(entry))

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
    )


def _failed(attempt: AttemptTrace) -> AttemptResult:
    """Return the result of an attempt after which another one was made."""
    seconds = (attempt.ended or attempt.started) - attempt.started
    return AttemptResult("failed", attempt.status, attempt.error, NO_TOKENS, "", seconds, None, attempt.dispatches)


def _result_of_last(entry: RequestLogEntry, attempt: AttemptTrace) -> AttemptResult:
    delay = attempt.started - entry.started
    ended = entry.duration if attempt.ended is None else attempt.ended - entry.started
    return AttemptResult(
        outcome=entry.outcome or ("cut" if entry.status == CLIENT_CLOSED_REQUEST else "failed"),
        status=attempt.status,
        error=attempt.error or entry.error,
        tokens=entry.tokens,
        tier=entry.tier,
        seconds=ended - delay,
        first_byte_seconds=None if entry.first_byte is None else entry.first_byte - delay,
        dispatches=attempt.dispatches,
    )


def _request_result(entry: RequestLogEntry) -> RequestResult:
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
    )
