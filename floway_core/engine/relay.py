"""Passing an upstream's answer on: relayed as a stream, or collected into one response."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from floway_core.engine.attempt import Attempt
from floway_core.engine.compaction import as_compaction
from floway_core.engine.storing import check_compacted, store_response
from floway_core.engine.upstream_body import EventBlocks, is_event_stream, open_body, read_response
from floway_core.errors import ClientDisconnected, GatewayError, UpstreamBroken, UpstreamFailed, UpstreamTimeout
from floway_core.protocol import sse
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.responses import FAILED, SUCCESSFUL
from floway_core.runtime.gateway import Gateway

log = logging.getLogger("floway.engine")

DRAIN_TIMEOUT = 0.25
"""Seconds to wait for the end of a body after its terminal event, so that the connection can be used again."""

Blocks = EventBlocks | Iterator[bytes | None]


def open_relay(gateway: Gateway, attempt: Attempt, gives_way: Callable[[GatewayError], bool] | None) -> "Relay":
    """The answer for a client that streams. Closes the upstream when it raises.

    :param gives_way: whether another candidate is tried after an error; None when there is no other. Then nothing is
        held back.
    :raises GatewayError: the upstream failed before it sent any content.
    :raises ClientDisconnected: the client hung up meanwhile.
    """
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(attempt.reply.body.close)
        context = attempt.context
        blocks: Blocks = open_body(gateway.settings, attempt.reply, context.upstream.name, context.request.client)
        if gives_way and isinstance(blocks, EventBlocks):
            _hold_back(blocks, gateway.settings.failover_window, gives_way)
        if attempt.summarises:
            blocks = as_compaction(blocks)
        relay = Relay(gateway, attempt, blocks)
        on_failure.pop_all()
        return relay


def _hold_back(blocks: EventBlocks, seconds: float, gives_way: Callable[[GatewayError], bool]) -> None:
    """Wait for the first content of a stream, as long as that may take.

    :raises GatewayError: the stream fails before, and another candidate may do better.
    """
    blocks.hold_until = time.monotonic() + seconds
    held, events, error = [], ResponseAccumulator({}, rewrite=False), None
    try:
        while not (events.has_content or events.terminal) and time.monotonic() < blocks.hold_until:
            block = next(blocks, b"")
            if block == b"":
                raise UpstreamBroken("The upstream ended its stream without a terminal event.")
            if block:
                held.append(block)
                events.add_events(block)
                if events.failure or events.terminal == FAILED:
                    raise _failure(events)
                if events.saw_done and not events.terminal:
                    raise UpstreamBroken("The upstream ended its stream without a terminal event.")
    except GatewayError as failure:
        if gives_way(failure):
            raise
        error = None if isinstance(failure, UpstreamFailed) and held else failure
    blocks.hold_until = None
    blocks.push_back(held, error)


class Relay:
    """The bytes for a client that streams: iterate, then close.

    Every event is passed on as soon as it is complete, byte for byte, but for what ``ResponseAccumulator`` changes. The
    terminal event leaves when the response has been stored, and not before. A stream that breaks ends in ``error`` and
    ``response.failed``, never in silence.

    Iterating waits for the upstream, unless it is told to do ``without_waiting``.
    """

    def __init__(self, gateway: Gateway, attempt: Attempt, blocks: Blocks) -> None:
        """:param blocks: complete events; None when a keep-alive is due, ``b""`` when there is nothing to pass on."""
        self.events = attempt.trace.events = ResponseAccumulator(
            attempt.overrides, attempt.context.model, present=attempt.present_failure
        )
        self._gateway = gateway
        self._attempt = attempt
        self._blocks = blocks
        self._complete = False

    def without_waiting(self) -> int | None:
        """Go on without waiting: what iterating yields is ``b""`` then when nothing has arrived, and None once, before
        what takes longer and is to be done while ``waiting``.

        :returns: a descriptor that becomes readable when there may be more; None when there is no such thing, and
            everything is as it was.
        """
        if not isinstance(self._blocks, EventBlocks):
            return None
        fileno = self._blocks.fileno()
        self._blocks.waits = fileno is None
        return fileno

    def waiting(self) -> None:
        """Go on as in the beginning."""
        if isinstance(self._blocks, EventBlocks):
            self._blocks.waits = True

    @property
    def _waits(self) -> bool:
        return not isinstance(self._blocks, EventBlocks) or self._blocks.waits

    def __iter__(self) -> Iterator[bytes | None]:
        try:
            for block in self._blocks:
                if block is None:
                    yield sse.KEEPALIVE
                elif block:
                    yield from self._followed(block)
                else:
                    yield b""
                if self.events.terminal:
                    return
                if self.events.saw_done:
                    break
            raise UpstreamBroken("The upstream ended its stream without a terminal event.")
        except ClientDisconnected:
            return
        except UpstreamFailed as error:
            self.events.failure = self.events.failure or error.failure
            yield from self._failed(error)
        except GatewayError as error:
            yield from self._failed(error)
        except Exception:  # the head has left: only an event can still tell the client
            log.exception("Relaying the answer failed")
            yield from self._failed(GatewayError(500, "The gateway failed while it relayed the answer."))

    def _followed(self, block: bytes) -> Iterator[bytes | None]:
        passed = self.events.add_events(block)
        if not self.events.terminal:
            if self.events.failure and isinstance(self._blocks, EventBlocks):
                self._blocks.expect_end()
            if passed or not self._waits:
                yield passed
            return
        self._complete = True
        if not self._waits:
            yield None
        if passed:
            yield passed
        last = self.events.terminal_event
        if self.events.terminal in SUCCESSFUL:
            store_response(self._gateway, self._attempt, self.events.response)
            last += sse.DONE
        yield last

    def _failed(self, error: GatewayError) -> Iterator[bytes | None]:
        if not self._waits:
            yield None
        yield self.events.fail(error.code or "server_error", error.message)

    def close(self) -> None:
        """Let go of the upstream. Called when the last byte has been sent, or the client is gone."""
        try:
            if self._complete:
                _drain(self._attempt)
        finally:
            self._attempt.reply.body.close()


def collect(gateway: Gateway, attempt: Attempt) -> ResponseAccumulator:
    """The answer for a client that does not stream, complete but not stored. Closes the upstream.

    :returns: what the upstream sent; the response is its ``response``.
    :raises GatewayError: the answer failed or broke off.
    :raises ClientDisconnected: the client hung up meanwhile.
    """
    events = attempt.trace.events = ResponseAccumulator(attempt.overrides, rewrite=False)
    context = attempt.context
    source = (gateway.settings, attempt.reply, context.upstream.name, context.request.client)
    try:
        if attempt.summarises or is_event_stream(attempt.reply):
            _follow_to_end(events, open_body(*source), attempt.summarises)
        else:
            events.add_response(read_response(*source))
        if events.terminal == FAILED:
            raise _failure(events)
        check_compacted(attempt.turn, events.response)
        _drain(attempt)
    except (UpstreamBroken, UpstreamTimeout):
        if events.failure is None:
            raise
        raise _failure(events) from None  # the upstream has said why
    finally:
        attempt.reply.body.close()
    return events


def _follow_to_end(events: ResponseAccumulator, blocks: Blocks, summarises: bool) -> None:
    for block in as_compaction(blocks) if summarises else blocks:
        if block:
            events.add_events(block)
        if events.terminal:
            return
        if events.saw_done:
            break
        if events.failure and isinstance(blocks, EventBlocks):
            blocks.expect_end()
    raise UpstreamBroken("The upstream ended its stream without a terminal event.")


def _failure(events: ResponseAccumulator) -> GatewayError:
    if events.failure is None:
        return UpstreamBroken("The upstream failed and gave no reason.")
    return UpstreamFailed(events.failure)


def _drain(attempt: Attempt) -> None:
    """Read to the end of the body, which as a rule is there already."""
    deadline = time.monotonic() + DRAIN_TIMEOUT
    try:
        while (left := deadline - time.monotonic()) > 0 and attempt.reply.body.read(left):
            pass
    except (UpstreamBroken, ClientDisconnected):
        pass
