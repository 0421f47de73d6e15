"""A streamed answer to a client as a push state machine: events of the upstream in, bytes for the client out."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from floway_core.dialect import AnswerReader, StreamFraming, Translator
from floway_core.engine.attempt import Attempt, present_failure
from floway_core.engine.client_stream import ENDED, NEEDS_THREAD, WAITING, ClientStream
from floway_core.engine.compaction import SummaryCompaction
from floway_core.engine.framing import StreamFramer
from floway_core.engine.pass_through import PassThroughAnswer, open_answer
from floway_core.engine.refusals import UNAUTHORIZED, failure_error, note_account_refusal
from floway_core.engine.storing import store_response
from floway_core.engine.upstream_body import DRAIN_TIMEOUT_SECONDS, UpstreamEvents, drain, missing_terminal_event
from floway_core.errors import AccountRefused, ClientDisconnected, GatewayError, UpstreamFailed
from floway_core.protocol import sse
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.responses import FAILED, SUCCESSFUL
from floway_core.runtime.gateway import Gateway

log = logging.getLogger("floway.engine")

LARGE_BLOCK_BYTES = 256 * 1024
"""From this size on a thread takes events: to follow a text of 50 MB takes longer than other streams may wait."""

TRANSLATION_FAILED = "translation_failed"
"""The code of the error of a stream that its dialect could not translate."""


class AnswerFormat(NamedTuple):
    """The form of the client's answer: the data of its dialect that the engine needs."""

    dialect: str = "responses"
    """The name, for the log."""
    translator: Callable[[], Translator | None] = lambda: None
    """Returns the translator of a stream; None: the client gets the events of the Responses API."""
    keepalive: bytes = sse.KEEPALIVE
    done: bytes = sse.DONE
    """Sent after the terminal event of a successful response."""
    reader: Callable[[], AnswerReader | None] = lambda: None
    """Returns the reader of an upstream's answer in this dialect; None: the dialect has no pass-through."""
    framing: StreamFraming | None = None
    """The framing of a stream without events; None for events."""


RESPONSES_FORMAT = AnswerFormat()


def _open_events(attempt: Attempt, answer_format: AnswerFormat) -> ResponseAccumulator | PassThroughAnswer:
    """Return the object that reads the events of the upstream."""
    if attempt.response.dialect != RESPONSES_FORMAT.dialect:
        return open_answer(attempt.response, answer_format.dialect, answer_format.reader)
    # not a method of the attempt, which refers to the accumulator
    present = partial(present_failure, attempt.context.upstream.name)
    return ResponseAccumulator(attempt.overrides, attempt.context.model, present=present)


class AnswerStream(ClientStream):
    """The bytes of one stream for its client.

    Events are sent as soon as they are complete, byte for byte except for the changes of ``ResponseAccumulator`` and of
    the dialect's translator. The terminal event is sent after the response has been stored. A stream that breaks off
    ends with a visible failure.
    """

    def __init__(
        self, gateway: Gateway, attempt: Attempt, answer_format: AnswerFormat, source: UpstreamEvents | None
    ) -> None:
        """:param source: the upstream's events; None if the caller feeds all of them at once (``preload``)."""
        self.events = _open_events(attempt, answer_format)
        """The answer of the upstream so far."""
        super().__init__(self.events)
        self._is_passed_through = isinstance(self.events, PassThroughAnswer)
        self._gateway = gateway
        self._attempt = attempt
        self._format = answer_format
        self._source = source
        self._summary = SummaryCompaction() if attempt.summarises and not self._is_passed_through else None
        self._failure_translator = answer_format.translator()
        self._translator = None if self._is_passed_through else self._failure_translator
        self._framer = StreamFramer(answer_format.framing) if answer_format.framing else None
        self._pending: bytes | None = None
        """Events that ``advance`` returns first; see ``hold_back`` and ``preload``."""
        self._large_block = b""
        """Events that have been read, and that a thread is to take."""
        self._error: GatewayError | None = None
        """Why the stream ends early."""
        self._has_terminal_event = False
        self._last_sent = time.monotonic()
        self._keepalive_interval = gateway.settings.keepalive_interval

    # ------------------------------------------------------------------------------------------------ before the head
    def preload(self, block: bytes) -> None:
        """Add all events of an answer that the upstream has not streamed."""
        self._pending = self.feed(block)

    def hold_back(self, seconds: float, can_fall_back: Callable[[GatewayError], bool]) -> None:
        """Wait until the first content arrives, for at most ``seconds``, before anything is sent.

        :param can_fall_back: whether another candidate is tried after an error.
        :raises GatewayError: the stream failed before, and another candidate may succeed.
        :raises ClientDisconnected: the client disconnected meanwhile.
        """
        deadline, pending = time.monotonic() + seconds, b""
        upstream = self._summary.events if self._summary else self.events
        while self.state is WAITING and not upstream.has_content:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            pending += self._receive(remaining)
            error = self._error
            if upstream.failure or upstream.terminal == FAILED:
                error = failure_error(upstream.failure)
            if error and can_fall_back(error):
                try:
                    raise error
                finally:
                    self._error = error = None  # its traceback refers to this frame
            if upstream.failure:
                break
        if self.state is ENDED:
            raise ClientDisconnected
        self._pending = pending

    # -------------------------------------------------------------------------------------------------------- driving
    def fileno(self) -> int | None:
        """Return a descriptor that becomes readable when the upstream has sent more; None if there is none."""
        return self._source.fileno() if self._source else None

    def _step(self, wait: bool) -> bytes:
        source = self._source
        if self.is_interlude:
            self.is_interlude, self.state, wait = False, WAITING, True
        if self._pending is not None:
            pending, self._pending = self._pending, None
            output = self._translate(pending)
        elif self.state is WAITING and source:
            output = self._receive(self._seconds_to_keepalive()) if wait else self._receive(0.0, in_loop=True)
            if output and self._translator:
                output = self._translate(output)
            if output:
                self._last_sent = source.read_at
            elif source.read_at - self._last_sent >= self._keepalive_interval and self.state is WAITING:
                self._last_sent = source.read_at
                return self._format.keepalive
        else:
            output = self._finish() if self.state is NEEDS_THREAD else b""
        if self._framer:
            output = self._framer.frame(output, is_last=self.state is ENDED)
        return output

    def feed(self, block: bytes) -> bytes:
        """Add complete events of the upstream, and return those that can be sent now, before translation.

        The terminal event is not among them: it is sent after the response has been stored.
        """
        if self._summary and not (block := self._summary.feed(block)):
            return b""
        events = self.events
        visible = events.add_events(block)
        if events.terminal:
            self._has_terminal_event = True
            self.state = NEEDS_THREAD
        elif events.saw_done:
            self._fail(missing_terminal_event())
        elif events.failure and self._source:
            self._source.expect_end()
        return visible

    def interrupt(self, reason: str) -> None:
        """End the response as incomplete, with the items that are complete. Its next step stores it.

        The upstream is not read any more. Does nothing if the response is ending or is passed through.

        :param reason: for ``incomplete_details``.
        """
        if self.state is WAITING and isinstance(self.events, ResponseAccumulator):
            self.events.interrupt(reason)
            self.state = NEEDS_THREAD

    def _release(self) -> None:
        try:
            if self._has_terminal_event:
                drain(self._attempt.response.body)
        finally:
            self._attempt.response.body.close()

    # ---------------------------------------------------------------------------------------------------------- steps
    def _seconds_to_keepalive(self) -> float:
        return max(0.0, self._last_sent + self._keepalive_interval - time.monotonic())

    def _receive(self, timeout: float, in_loop: bool = False) -> bytes:
        """Feed the events that arrive within ``timeout`` seconds, and return the result of ``feed``.

        :param in_loop: whether the stream loop calls this. Then large blocks are left to a thread.
        """
        source, visible = self._source, b""
        assert source
        try:
            block, self._large_block = self._large_block or source.read(timeout), b""
            if in_loop and (len(block) >= LARGE_BLOCK_BYTES or source.has_more):
                self._large_block, self.is_interlude, self.state = block, True, NEEDS_THREAD
            elif block:
                visible = self.feed(block)
            if source.has_ended and self.state is WAITING:
                visible += self._end_input()
        except ClientDisconnected:
            self.state = ENDED
        except GatewayError as error:
            self._fail(error)
        except Exception:  # the head has been sent: only an event can still reach the client
            log.exception("Relaying the response of upstream %r failed", self._attempt.context.upstream.name)
            self._fail(GatewayError(500, "The gateway failed to relay the response."))
        return visible

    def _end_input(self) -> bytes:
        """Handle the end of the upstream's stream."""
        visible = b""
        if self._summary:
            summary, self._summary = self._summary, None
            visible = self.feed(summary.end())
        if isinstance(self.events, PassThroughAnswer):
            self.events.end()
            if self.events.terminal:
                self._has_terminal_event, self.state = True, NEEDS_THREAD
        if self.state is WAITING:
            self._fail(missing_terminal_event())
        return visible

    def _fail(self, error: GatewayError) -> None:
        self._error = self._error or error.with_traceback(None)  # which refers to this object
        self.state = NEEDS_THREAD

    def _translate(self, events: bytes, *, is_end: bool = False) -> bytes:
        """Convert events to the client's dialect; if that fails, the stream ends.

        :param is_end: whether these events are the last ones.
        """
        translator = self._translator
        if translator is None:
            return events
        try:
            translated = translator.feed(events) if events else b""
            return translated + translator.end() if is_end else translated
        except (Exception, SystemExit):  # a plugin may raise anything, and other streams must not be affected
            log.exception("The translator of dialect %r failed", self._format.dialect)
            self._fail(GatewayError(500, "The gateway failed to translate the response.", code=TRANSLATION_FAILED))
            return b""

    def _finish(self) -> bytes:
        """Store the response, and return the last bytes of the stream."""
        last = b""
        if self._error is None:
            self._error = self._store()
        if self._error is None and self._is_passed_through:
            last = self._read_rest()
        elif self._error is None:
            last = self._translate(self.events.terminal_event, is_end=True)
            last += self._format.done if self.events.terminal in SUCCESSFUL else b""
        if self._error is not None:
            last = self._encode_failure(self._error)
        if self.events.terminal not in SUCCESSFUL and (failure := self.events.failure):
            note_account_refusal(self._gateway, self._attempt.context.upstream, failure)
        self._end()
        return last

    def _store(self) -> GatewayError | None:
        """Store the response if it succeeded; return why it could not be stored."""
        if self.events.terminal not in SUCCESSFUL or self._is_passed_through:
            return None
        try:
            store_response(self._gateway, self._attempt, self.events.response)
        except GatewayError as error:
            return error.with_traceback(None)
        except Exception:  # the head has been sent: only an event can still reach the client
            log.exception("Storing the response of upstream %r failed", self._attempt.context.upstream.name)
            return GatewayError(500, "The gateway failed to relay the response.")
        return None

    def _read_rest(self) -> bytes:
        """Return the last events of an answer that is passed through, and events that follow within a moment.

        Some upstreams send the usage after the event that ends the answer for the client.
        """
        deadline = time.monotonic() + DRAIN_TIMEOUT_SECONDS
        source = self._source
        try:
            while source and not source.has_ended and (remaining := deadline - time.monotonic()) > 0:
                if rest := source.read(remaining):
                    self.events.add_events(rest)
        except (GatewayError, ClientDisconnected):
            pass  # the answer itself is complete
        return self.events.terminal_event

    def _encode_failure(self, error: GatewayError) -> bytes:
        """Return the bytes that end the stream visibly.

        :raises Exception: the translator fails here, too. The connection is then closed in the middle of the body.
        """
        if isinstance(error, UpstreamFailed):
            self.events.failure = self.events.failure or error.failure
        events = self.events.fail(error.code or "server_error", error.message)
        if self._failure_translator is None:
            return events
        if failure := self.events.failure:
            error = failure_error(failure)
            if failure.status in UNAUTHORIZED:
                error = AccountRefused(self._attempt.context.upstream.name, failure.status)
        self.state = ENDED
        return self._failure_translator.failure(error)
