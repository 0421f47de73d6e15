"""Background responses that this process creates, and streams for clients that follow those of any process.

A response is created as for a client that streams, but its events are written to the database. One thread stores the
events of all responses of the process a few times a second, checks whether one was cancelled, and feeds the clients
that follow responses of any worker.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from floway_core.contexts import ApiKey, ClientRequest
from floway_core.conversation import background, load
from floway_core.conversation.background import FAILED, BackgroundResponse
from floway_core.engine.client_stream import ClientStream, StreamState
from floway_core.engine.clientless import CancelSignal, RecordedStream
from floway_core.engine.event_recorder import EventRecorder
from floway_core.engine.serve import PreparedTurn, order_candidates, prepare, respond
from floway_core.engine.stored_events import StoredEventStream
from floway_core.engine.trace import RequestTrace
from floway_core.errors import ClientDisconnected, GatewayError
from floway_core.protocol.responses import blank_response
from floway_core.runtime.gateway import Gateway
from floway_core.storage.db import DATABASE_ERRORS, transaction

log = logging.getLogger("floway.background")

TICK_SECONDS = 0.25
"""Time between two rounds of the thread."""

OVERLOADED = "The gateway creates as many background responses as it can at the moment. Try again soon."

ECHOED_FIELDS = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "reasoning",
    "service_tier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
)
"""Fields of a request that the response object contains before the upstream has answered."""


@dataclass(eq=False)
class _Run:
    """A response that this process creates."""

    row: int
    initial: Mapping[str, Any]
    """The initial response object."""
    signal: CancelSignal
    recorder: EventRecorder
    """Events that are not stored yet."""
    has_begun: bool = False
    """Whether the status ``in_progress`` has been stored."""
    end_again: Callable[[], None] | None = None
    """Tries again to store the end, which has failed; None as long as it has not."""
    flush_lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while events are stored, so that batches keep their order."""


class BackgroundRuns:
    """The background responses of this process. Thread-safe."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._database = gateway.services.database
        self.relay: Callable[[ClientStream, socket.socket, Callable[[], None]], None] | None = None
        """Waits for the socket of a stream; then a thread calls the function."""
        self._runs: dict[str, _Run] = {}
        self._abandoned: set[ClientStream] = set()
        self._readers: set[StoredEventStream] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """Return the number of responses that run without a client."""
        return len(self._runs) + len(self._abandoned)

    def finish(self, stream: ClientStream) -> None:
        """Advance the stream of a client that has disconnected to its end, so that its response is stored."""

        signal = CancelSignal(self._gateway.shutdown)

        def forget() -> None:
            signal.close()
            with self._changed:
                self._abandoned.discard(stream)

        with self._changed:
            self._abandoned.add(stream)
        stream.subscribe(closed=forget)
        self._advance(RecordedStream(stream, lambda block: None), signal)

    # ------------------------------------------------------------------------------------------------------- creating
    def start(
        self, request: ClientRequest, trace: RequestTrace, *, streams: bool, on_end: Callable[[], None]
    ) -> dict[str, Any]:
        """Start to create a response, and return the response object.

        :param request: the client's request with a validated body.
        :param trace: receives what happens.
        :param streams: whether the client may follow the events.
        :param on_end: called when the response has ended, if this call succeeds.
        :raises GatewayError: the conversation cannot be continued, no upstream serves the model, or too many run.
        """
        if len(self) >= self._gateway.settings.threads:
            raise _overloaded()
        signal = CancelSignal(self._gateway.shutdown)
        key = replace(request.api_key, shows_account=False)  # stored data never shows the account
        body = {**request.body, "stream": True}
        with contextlib.ExitStack() as undo:
            undo.callback(signal.close)
            prepared = prepare(self._gateway, replace(request, api_key=key, client=signal, stream=True, body=body))
            if prepared.lock:
                undo.callback(prepared.lock.release)
            order_candidates(self._gateway, prepared.request, prepared.turn)  # an unknown model is refused now
            initial = _initial_response(request.body, prepared)
            row = background.create(self._database, request.api_key.id, initial, has_events=streams)
            undo.pop_all()
        run = _Run(row, initial, signal, EventRecorder(keeps=streams))
        self._gateway.turn_leases.acquire(background.lease_id(initial["id"]))
        with self._changed:
            self._runs[initial["id"]] = run
        self._wake()
        try:
            worker = threading.Thread(target=self._run, args=(run, prepared, trace, on_end), daemon=True)
            worker.start()
        except RuntimeError:  # the system allows no further thread
            if prepared.lock:
                prepared.lock.release()
            self._end(run, {**initial, "error": {"code": "server_overloaded", "message": OVERLOADED}}, lambda: None)
            raise _overloaded() from None
        return initial

    def _run(self, run: _Run, prepared: PreparedTurn, trace: RequestTrace, on_end: Callable[[], None]) -> None:
        """Have an upstream respond, and record its events."""
        try:
            answer = respond(self._gateway, prepared, trace).stream
            assert answer is not None
        except ClientDisconnected:  # it has been cancelled
            self._end(run, run.initial, on_end)
        except GatewayError as error:
            failed = run.recorder.fail(run.initial, error.code or error.type, error.message)
            self._end(run, failed, on_end)
        except Exception:  # the end of this thread: nobody else could end the response
            log.exception("Background response %s failed", run.initial["id"])
            failed = run.recorder.fail(run.initial, "server_error", "The gateway failed to serve this request.")
            self._end(run, failed, on_end)
        else:
            answer.subscribe(closed=lambda: self._end(run, answer.answer.response or run.initial, on_end))
            self._advance(RecordedStream(answer, run.recorder.add), run.signal)

    def _advance(self, stream: RecordedStream, signal: CancelSignal) -> None:
        """Advance a stream to its end. With a stream loop, it needs no thread while it waits."""

        def take(step: Callable[[], object]) -> None:
            try:
                step()
            except Exception:  # the end of this thread, or of the stream's way through the loop
                log.exception("A response without a client failed")
                stream.close()

        def finish() -> None:
            take(stream.run_to_end)
            stream.close()

        if self.relay and stream.fileno() is not None:
            take(lambda: stream.advance(wait=False))  # what has arrived with the head
            if stream.state is StreamState.WAITING:
                self.relay(stream, signal.socket, finish)
                return
        finish()

    def _end(self, run: _Run, response: Mapping[str, Any], on_end: Callable[[], None]) -> None:
        """Store the last events and the end. If the database fails, the thread tries again until it works.

        If the process ends before, the lease expires, and the next reader ends the response.
        """
        response_id = run.initial["id"]
        try:
            self._flush([run])
            background.end(self._database, response_id, FAILED, {**response, "status": FAILED})
        except DATABASE_ERRORS as error:
            if run.end_again is None:
                log.error("The end of background response %s is not stored yet: %s", response_id, error)
                run.end_again = partial(self._end, run, response, on_end)
            return
        except Exception:  # it would fail again; the next reader ends the response
            log.exception("The end of background response %s cannot be stored", response_id)
        self._gateway.turn_leases.release(background.lease_id(response_id))
        with self._changed:  # not earlier: a worker that stops exits when nothing runs
            del self._runs[response_id]
        run.signal.close()
        self._wake()
        on_end()

    def cancel(self, response: BackgroundResponse) -> None:
        """Cancel a response of any worker, if it is still running."""
        background.cancel(self._database, response)
        if run := self._runs.get(response.response_id):
            run.signal.set()

    # -------------------------------------------------------------------------------------------------------- reading
    def follow(self, key: ApiKey, response: BackgroundResponse, after: int) -> StoredEventStream:
        """Return the stream of the events of a response, including future ones.

        :param after: the sequence number after which it starts.
        """
        stream = StoredEventStream(
            response.row,
            after,
            keepalive_interval=self._gateway.settings.keepalive_interval,
            shutdown_fileno=self._gateway.shutdown.fileno(),
            memory=self._gateway.body_memory,
            find_response=lambda: self._find_response(key, response),
        )
        with self._changed:
            self._readers.add(stream)

        def forget() -> None:
            with self._changed:
                self._readers.discard(stream)

        stream.subscribe(closed=forget)
        self._wake()
        return stream

    def _find_response(self, key: ApiKey, followed: BackgroundResponse) -> Mapping[str, Any]:
        """Return the response object of a response that has ended without a terminal event."""
        if snapshot := load.find_snapshot(self._database, key.id, followed.response_id, 0):
            return load.load_response(self._database, snapshot)
        stored = background.find(self._database, key.id, followed.response_id, 0)
        return stored.response if stored else {**followed.response, "status": background.CANCELLED}

    # ----------------------------------------------------------------------------------------------------- the thread
    def _wake(self) -> None:
        """Start the thread, or make it start its next round now."""
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._loop, name="background", daemon=True)
                with contextlib.suppress(RuntimeError):  # the system allows no thread; the next call tries again
                    thread.start()
                    self._thread = thread
            self._changed.notify()

    def _loop(self) -> None:
        is_waiting = False
        while True:
            with self._changed:
                self._changed.wait(TICK_SECONDS if self._runs or self._readers else None)
                runs, readers = list(self._runs.values()), list(self._readers)
            try:
                if runs:
                    self._take_round(runs)
                for stream in readers:
                    stream.fetch(self._database)
                is_waiting = False
            except DATABASE_ERRORS as error:
                if not is_waiting:
                    log.warning("Background responses wait for the database: %s", error)
                is_waiting = True
            except Exception:  # all background responses of the process depend on this thread
                log.exception("A round of the background thread failed")

    def _take_round(self, runs: list[_Run]) -> None:
        """Store what is new, and stop the responses that were cancelled."""
        self._flush(runs)
        stopped_rows = background.find_stopped(self._database, [run.row for run in runs])
        for run in runs:
            if run.end_again:
                run.end_again()
            elif run.row in stopped_rows:
                run.signal.set()

    def _flush(self, runs: list[_Run]) -> None:
        """Store the recorded events of the runs, in one transaction."""
        for run in runs:
            run.flush_lock.acquire()
        try:
            started = [run.row for run in runs if run.recorder.has_events and not run.has_begun]
            batches = [(run, batch) for run in runs if (batch := run.recorder.take())]
            if not started and not batches:
                return
            try:
                with transaction(self._database):
                    if started:
                        background.begin(self._database, started)
                    background.store_events(self._database, [(run.row, *batch) for run, batch in batches])
            except DATABASE_ERRORS:
                for run, batch in batches:
                    run.recorder.put_back(batch)
                raise
            for run in runs:
                run.has_begun = run.has_begun or run.row in started
        finally:
            for run in runs:
                run.flush_lock.release()


def _overloaded() -> GatewayError:
    return GatewayError(503, OVERLOADED, code="server_overloaded", headers={"retry-after": "1"})


def _initial_response(body: Mapping[str, Any], prepared: PreparedTurn) -> dict[str, Any]:
    """Return the response object before the upstream has answered."""
    request_fields = {name: body[name] for name in ECHOED_FIELDS if body.get(name) is not None}
    initial_fields = {"status": background.QUEUED, "error": None, "incomplete_details": None, "usage": None}
    return {
        **blank_response(body["model"]),
        "instructions": None,
        "metadata": {},
        **request_fields,
        **prepared.turn.overrides,
        **initial_fields,
    }
