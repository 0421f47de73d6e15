"""Passing an upstream's response to the client: relayed as a stream, or collected into one response object."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from floway_core.contexts import Upstream
from floway_core.engine.attempt import Attempt
from floway_core.engine.compaction import summary_to_compaction
from floway_core.engine.storing import check_compacted, store_response
from floway_core.engine.upstream_body import EventBlocks, is_event_stream, open_body, read_response
from floway_core.errors import ClientDisconnected, GatewayError, UpstreamBroken, UpstreamFailed, UpstreamTimeout
from floway_core.protocol import sse
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.failures import Failure
from floway_core.protocol.responses import FAILED, SUCCESSFUL
from floway_core.runtime.gateway import Gateway

log = logging.getLogger("floway.engine")

DRAIN_TIMEOUT_SECONDS = 0.25
"""How long to wait for the end of a body after its terminal event, so that the connection can be reused."""

UNAUTHORIZED = frozenset({401, 403})
"""Statuses by which an upstream refuses the gateway's account, as opposed to limiting it."""

Blocks = EventBlocks | Iterator[bytes | None]


def open_relay(gateway: Gateway, attempt: Attempt, can_fall_back: Callable[[GatewayError], bool] | None) -> "Relay":
    """Open the stream for the client. Closes the upstream's response if it raises.

    :param can_fall_back: whether another candidate is tried after an error; None if there is no other candidate. Then
        the stream is not buffered.
    :raises GatewayError: the upstream failed before it sent any content.
    :raises ClientDisconnected: the client hung up meanwhile.
    """
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(attempt.response.body.close)
        context = attempt.context
        blocks: Blocks = open_body(gateway.settings, attempt.response, context.upstream.name, context.request.client)
        if can_fall_back and isinstance(blocks, EventBlocks):
            _wait_for_content(blocks, gateway.settings.failover_window, can_fall_back)
        if attempt.summarises:
            blocks = summary_to_compaction(blocks)
        relay = Relay(gateway, attempt, blocks)
        on_failure.pop_all()
        return relay


def _wait_for_content(blocks: EventBlocks, seconds: float, can_fall_back: Callable[[GatewayError], bool]) -> None:
    """Buffer a stream until its first content arrives, for ``seconds`` at most.

    :raises GatewayError: the stream failed before, and another candidate may succeed.
    """
    deadline = blocks.wait_until = time.monotonic() + seconds
    buffered: list[bytes] = []
    events, error = ResponseAccumulator({}, rewrite=False), None
    try:
        while not (events.has_content or events.terminal) and time.monotonic() < deadline:
            block = next(blocks, b"")
            if block == b"":
                raise UpstreamBroken("The upstream ended its stream without a terminal event.")
            if block:
                buffered.append(block)
                events.add_events(block)
                if events.failure or events.terminal == FAILED:
                    raise _failure_error(events)
                if events.saw_done and not events.terminal:
                    raise UpstreamBroken("The upstream ended its stream without a terminal event.")
    except GatewayError as failure:
        if can_fall_back(failure):
            raise
        error = None if isinstance(failure, UpstreamFailed) and buffered else failure
    blocks.wait_until = None
    blocks.push_back(buffered, error)


def note_account_refusal(gateway: Gateway, upstream: Upstream, failure: Failure) -> None:
    """Write down for the operator, in the log and for ``/readyz``, that ``upstream`` refused its account."""
    problem = f"The upstream {upstream.name!r} refused its account with {failure.status}: sign in anew."
    gateway.account_refusals[upstream.id] = problem
    log.warning("Upstream %s refused its account: %d %s", upstream.name, failure.status, failure.code)


class Relay:
    """The bytes of a stream for the client: iterate, then close.

    Every event is passed on as soon as it is complete, byte for byte except for what ``ResponseAccumulator`` rewrites.
    The terminal event is passed on after the response has been stored. A stream that breaks ends in ``error`` and
    ``response.failed``, never in silence.

    Iterating blocks until the upstream sends something, unless ``set_nonblocking`` was called.
    """

    def __init__(self, gateway: Gateway, attempt: Attempt, blocks: Blocks) -> None:
        """:param blocks: complete events; None when a keep-alive is due, ``b""`` when nothing has arrived."""
        self.events = attempt.trace.events = ResponseAccumulator(
            attempt.overrides, attempt.context.model, present=attempt.present_failure
        )
        self._gateway = gateway
        self._attempt = attempt
        self._blocks = blocks
        self._complete = False

    def set_nonblocking(self) -> int | None:
        """Stop blocking, if the upstream's connection can be polled.

        Iterating then yields ``b""`` when nothing has arrived. It yields None once, before work that takes longer, such
        as storing the response: call ``set_blocking`` and continue in a thread.

        :returns: a descriptor that becomes readable when more has arrived; None if there is none, and iterating still
            blocks.
        """
        if not isinstance(self._blocks, EventBlocks):
            return None
        fileno = self._blocks.fileno()
        self._blocks.blocking = fileno is None
        return fileno

    def set_blocking(self) -> None:
        """Block again."""
        if isinstance(self._blocks, EventBlocks):
            self._blocks.blocking = True

    @property
    def _is_blocking(self) -> bool:
        return not isinstance(self._blocks, EventBlocks) or self._blocks.blocking

    def __iter__(self) -> Iterator[bytes | None]:
        try:
            for block in self._blocks:
                if block is None:
                    yield sse.KEEPALIVE
                elif block:
                    yield from self._relay_block(block)
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
            yield from self._fail(error)
        except GatewayError as error:
            yield from self._fail(error)
        except Exception:  # the headers have been sent: only an event can still reach the client
            log.exception("Relaying the response failed")
            yield from self._fail(GatewayError(500, "The gateway failed to relay the response."))

    def _relay_block(self, block: bytes) -> Iterator[bytes | None]:
        visible = self.events.add_events(block)
        if not self.events.terminal:
            if self.events.failure and isinstance(self._blocks, EventBlocks):
                self._blocks.expect_end()
            if visible or not self._is_blocking:
                yield visible
            return
        self._complete = True
        if not self._is_blocking:
            yield None
        if visible:
            yield visible
        last = self.events.terminal_event
        if self.events.terminal in SUCCESSFUL:
            store_response(self._gateway, self._attempt, self.events.response)
            last += sse.DONE
        else:
            self._note_refusal()
        yield last

    def _fail(self, error: GatewayError) -> Iterator[bytes | None]:
        if not self._is_blocking:
            yield None
        self._note_refusal()
        yield self.events.fail(error.code or "server_error", error.message)

    def _note_refusal(self) -> None:
        failure = self.events.failure
        if failure and failure.status in UNAUTHORIZED:
            note_account_refusal(self._gateway, self._attempt.context.upstream, failure)

    def close(self) -> None:
        """Close the upstream's response. Called when the last byte has been sent, or the client has hung up."""
        try:
            if self._complete:
                _drain(self._attempt)
        finally:
            self._attempt.response.body.close()


def collect_response(gateway: Gateway, attempt: Attempt) -> dict[str, Any]:
    """Read the whole response, for a client that does not stream. Closes the upstream's response.

    :returns: the response object with its output, which is not stored yet.
    :raises GatewayError: the response failed or broke off.
    :raises ClientDisconnected: the client hung up meanwhile.
    """
    events = attempt.trace.events = ResponseAccumulator(attempt.overrides, rewrite=False)
    context = attempt.context
    source = (gateway.settings, attempt.response, context.upstream.name, context.request.client)
    try:
        if attempt.summarises or is_event_stream(attempt.response):
            _read_to_end(events, open_body(*source), attempt.summarises)
        else:
            events.add_response(read_response(*source))
        if events.terminal == FAILED:
            raise _failure_error(events)
        check_compacted(attempt.turn, events.response)
        _drain(attempt)
    except (UpstreamBroken, UpstreamTimeout):
        if events.failure is None:
            raise
        raise _failure_error(events) from None  # the upstream has sent its own reason
    finally:
        attempt.response.body.close()
    return events.response


def _read_to_end(events: ResponseAccumulator, blocks: Blocks, summarises: bool) -> None:
    for block in summary_to_compaction(blocks) if summarises else blocks:
        if block:
            events.add_events(block)
        if events.terminal:
            return
        if events.saw_done:
            break
        if events.failure and isinstance(blocks, EventBlocks):
            blocks.expect_end()
    raise UpstreamBroken("The upstream ended its stream without a terminal event.")


def _failure_error(events: ResponseAccumulator) -> GatewayError:
    if events.failure is None:
        return UpstreamBroken("The upstream failed without a reason.")
    return UpstreamFailed(events.failure)


def _drain(attempt: Attempt) -> None:
    """Read to the end of the body, which has usually arrived with the terminal event."""
    deadline = time.monotonic() + DRAIN_TIMEOUT_SECONDS
    try:
        while (remaining := deadline - time.monotonic()) > 0 and attempt.response.body.read(remaining):
            pass
    except (UpstreamBroken, ClientDisconnected):
        pass
