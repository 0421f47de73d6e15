"""Relay an upstream's response to the client as a stream, or collect it into one response object."""

from collections.abc import Callable
from typing import Any, NamedTuple

from floway_core.contexts import ClientConnection
from floway_core.engine.answer_stream import RESPONSES_FORMAT, AnswerFormat, AnswerStream
from floway_core.engine.attempt import Attempt
from floway_core.engine.compaction import SummaryCompaction
from floway_core.engine.pass_through import PassThroughAnswer, open_answer
from floway_core.engine.refusals import failure_error
from floway_core.engine.storing import check_compacted
from floway_core.engine.upstream_body import (
    UpstreamEvents,
    drain,
    is_event_stream,
    missing_terminal_event,
    read_content,
    read_response,
)
from floway_core.errors import GatewayError, UpstreamBroken, UpstreamTimeout
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.responses import FAILED
from floway_core.protocol.synthesis import synthesize_events
from floway_core.runtime.gateway import Gateway


def open_stream(
    gateway: Gateway,
    attempt: Attempt,
    answer_format: AnswerFormat,
    can_fall_back: Callable[[GatewayError], bool] | None,
) -> AnswerStream:
    """Open the stream for the client. Closes the upstream's response if it raises.

    :param can_fall_back: whether another candidate is tried after an error; None if there is no other candidate. Then
        the stream is not held back.
    :raises GatewayError: the upstream failed before it sent any content.
    :raises ClientDisconnected: the client disconnected meanwhile.
    """
    settings, response = gateway.settings, attempt.response
    try:
        is_passed_through = response.dialect != RESPONSES_FORMAT.dialect
        if is_event_stream(response) or is_passed_through:
            source = UpstreamEvents(settings, response, *_end_points(attempt), verbatim=is_passed_through)
            stream = AnswerStream(gateway, attempt, answer_format, source)
            if can_fall_back:
                stream.hold_back(settings.failover_window, can_fall_back)
        else:
            events = synthesize_events(read_response(settings, response, *_end_points(attempt)))
            stream = AnswerStream(gateway, attempt, answer_format, source=None)
            stream.preload(b"".join(events))
    except BaseException:
        response.body.close()
        raise
    attempt.trace.events = stream.events
    return stream


class CollectedAnswer(NamedTuple):
    """The complete answer for a client that does not stream."""

    response: dict[str, Any]
    """The response object, not stored yet. If the answer is passed through, only the data that its reader has found."""
    content: bytes | None = None
    """The upstream's body, if it is passed through."""


def collect_response(gateway: Gateway, attempt: Attempt, answer_format: AnswerFormat) -> CollectedAnswer:
    """Read the complete response, for a client that does not stream. Closes the upstream's response.

    :raises GatewayError: the response failed or broke off.
    :raises ClientDisconnected: the client disconnected meanwhile.
    """
    events: ResponseAccumulator | PassThroughAnswer | None = None
    content = None
    try:
        if attempt.response.dialect != RESPONSES_FORMAT.dialect:
            events = open_answer(attempt.response, answer_format.dialect, answer_format.reader)
            content = read_content(gateway.settings, attempt.response, *_end_points(attempt))
            events.add_content(content)
        else:
            events = attempt.trace.events = ResponseAccumulator(attempt.overrides, rewrite=False)
            _read_to_end(gateway, attempt, events)
        attempt.trace.events = events
        if events.terminal == FAILED:
            raise failure_error(events.failure)
        if content is None:
            check_compacted(attempt.turn, events.response)
        drain(attempt.response.body)
    except (UpstreamBroken, UpstreamTimeout):
        if events is None or events.failure is None:
            raise
        raise failure_error(events.failure) from None  # the upstream has sent its own reason
    finally:
        attempt.response.body.close()
    return CollectedAnswer(events.response, content)


def _end_points(attempt: Attempt) -> tuple[str, ClientConnection]:
    """Return the name of the upstream and the connection to the client."""
    return attempt.context.upstream.name, attempt.context.request.client


def _read_to_end(gateway: Gateway, attempt: Attempt, events: ResponseAccumulator) -> None:
    settings, response = gateway.settings, attempt.response
    summary = SummaryCompaction() if attempt.summarises else None
    if not is_event_stream(response):
        document = read_response(settings, response, *_end_points(attempt))
        if summary:
            events.add_events(summary.feed(b"".join(synthesize_events(document))))
        else:
            events.add_response(document)
        return
    source = UpstreamEvents(settings, response, *_end_points(attempt))
    while not (events.terminal or events.saw_done or source.has_ended):
        block = source.read(settings.idle_timeout)
        if summary:
            block = summary.feed(block)
        events.add_events(block)
        if events.failure:
            source.expect_end()
    if summary and not events.terminal:
        events.add_events(summary.end())
    if not events.terminal:
        raise missing_terminal_event()
