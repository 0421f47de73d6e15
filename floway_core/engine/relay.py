"""Passing an upstream's response to the client: relayed as a stream, or collected into one response object."""

import contextlib
from collections.abc import Callable
from typing import Any

from floway_core.engine.answer_stream import AnswerFormat, AnswerStream
from floway_core.engine.attempt import Attempt
from floway_core.engine.compaction import SummaryCompaction
from floway_core.engine.refusals import failure_error
from floway_core.engine.storing import check_compacted
from floway_core.engine.upstream_body import UpstreamEvents, drain, is_event_stream, read_response, unfinished
from floway_core.errors import GatewayError, UpstreamBroken, UpstreamTimeout
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.response_writer import synthesize_events
from floway_core.protocol.responses import FAILED
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
    :raises ClientDisconnected: the client hung up meanwhile.
    """
    settings, response = gateway.settings, attempt.response
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(response.body.close)
        upstream, client = attempt.context.upstream.name, attempt.context.request.client
        if is_event_stream(response):
            source = UpstreamEvents(settings, response, upstream, client)
            stream = AnswerStream(gateway, attempt, answer_format, source)
            if can_fall_back:
                stream.hold_back(settings.failover_window, can_fall_back)
        else:
            events = synthesize_events(read_response(settings, response, upstream, client))
            stream = AnswerStream(gateway, attempt, answer_format, source=None)
            stream.preload(b"".join(events))
        on_failure.pop_all()
    attempt.trace.events = stream.events
    return stream


def collect_response(gateway: Gateway, attempt: Attempt) -> dict[str, Any]:
    """Read the whole response, for a client that does not stream. Closes the upstream's response.

    :returns: the response object with its output, which is not stored yet.
    :raises GatewayError: the response failed or broke off.
    :raises ClientDisconnected: the client hung up meanwhile.
    """
    events = attempt.trace.events = ResponseAccumulator(attempt.overrides, rewrite=False)
    try:
        _read_to_end(gateway, attempt, events)
        if events.terminal == FAILED:
            raise failure_error(events.failure)
        check_compacted(attempt.turn, events.response)
        drain(attempt.response.body)
    except (UpstreamBroken, UpstreamTimeout):
        if events.failure is None:
            raise
        raise failure_error(events.failure) from None  # the upstream has sent its own reason
    finally:
        attempt.response.body.close()
    return events.response


def _read_to_end(gateway: Gateway, attempt: Attempt, events: ResponseAccumulator) -> None:
    settings, response, context = gateway.settings, attempt.response, attempt.context
    summary = SummaryCompaction() if attempt.summarises else None
    if not is_event_stream(response):
        document = read_response(settings, response, context.upstream.name, context.request.client)
        if summary:
            events.add_events(summary.feed(b"".join(synthesize_events(document))))
        else:
            events.add_response(document)
        return
    source = UpstreamEvents(settings, response, context.upstream.name, context.request.client)
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
        raise unfinished()
