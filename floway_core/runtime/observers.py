"""Deliver the results of attempts and requests to plugins. Each plugin has a queue and a thread; no request waits."""

import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pluggy

from floway_core.results import AttemptResult, EndedAttempt, RequestResult
from floway_core.runtime.lifecycle import SLOW_SECONDS, Hook, Providers
from floway_core.runtime.plugins import hook_of

log = logging.getLogger("floway.plugins")

MAX_PENDING = 1000
"""Requests whose results are queued for one plugin. The results of further ones are dropped."""

BATCHING_SECONDS = 0.02
"""Delay of the first queued result, so that those that follow are delivered in the same batch.

A thread that woke for each result would cost a busy worker a quarter of its CPU time.
"""

REPORT_INTERVAL_SECONDS = 60.0
"""Time between two log lines about dropped results."""

OBSERVER_FLUSH_SECONDS = 3.0
"""Time to deliver the queued results when the process ends."""

Call = tuple[str, Callable[[], object]]
"""The name of a hook, for the log, and a call of it."""

ATTEMPT_END, REQUEST_END, STOP = "on_attempt_end", "on_request_end", "on_stop"


class ResultQueue:
    """Calls the hooks of one plugin in a separate thread, which starts with the first result.

    It survives a fork: the child starts with an empty queue and a new thread.
    """

    def __init__(self, plugin: str, max_pending: int = MAX_PENDING) -> None:
        self._plugin = plugin
        self._max_pending = max_pending
        self._pid = 0
        """The process that has the thread."""
        self._pending: queue.SimpleQueue[Sequence[Call]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._dropped = 0
        self._reported_at = float("-inf")

    def put(self, calls: Sequence[Call]) -> None:
        """Queue ``calls``; drop all of them if the queue is full. Never blocks."""
        try:
            pending = self._queue()
        except RuntimeError:  # the system allows no thread; the next results try again
            self._report_dropped(calls, "has no thread")
            return
        if pending.qsize() < self._max_pending:
            pending.put(calls)
        else:
            self._report_dropped(calls, "is too slow")

    def flush(self, timeout: float) -> bool:
        """Wait until the results that are pending now have been delivered, for ``timeout`` seconds at most.

        :returns: whether they have been.
        """
        if self._pid != os.getpid():
            return True
        done = threading.Event()
        self._pending.put([("flush", done.set)])
        return done.wait(timeout)

    def _queue(self) -> "queue.SimpleQueue[Sequence[Call]]":
        """Return the queue of this process. Start its thread if necessary."""
        if self._pid == os.getpid():
            return self._pending
        with self._lock:
            if self._pid != os.getpid():
                self._pending = queue.SimpleQueue()
                name = f"observer {self._plugin}"
                threading.Thread(target=self._work, args=(self._pending,), name=name, daemon=True).start()
                self._pid = os.getpid()
        return self._pending

    def _work(self, pending: "queue.SimpleQueue[Sequence[Call]]") -> None:
        while True:
            calls = pending.get()
            time.sleep(BATCHING_SECONDS)
            while True:
                for name, call in calls:
                    self._call(name, call)
                if pending.empty():
                    break
                calls = pending.get()

    def _call(self, name: str, call: Callable[[], object]) -> None:
        started_at = time.monotonic()
        try:
            call()
        except (Exception, SystemExit):  # a plugin may raise anything
            log.exception("Observer %r failed in %s", self._plugin, name)
        if (seconds := time.monotonic() - started_at) > SLOW_SECONDS:
            log.warning("Observer %r took %.1f seconds in %s", self._plugin, seconds, name)

    def _report_dropped(self, calls: Sequence[Call], reason: str) -> None:
        self._dropped += len(calls)
        if time.monotonic() - self._reported_at >= REPORT_INTERVAL_SECONDS:
            self._reported_at = time.monotonic()
            name, _ = calls[-1]
            log.warning("Observer %r %s in %s: %d results dropped so far", self._plugin, reason, name, self._dropped)


@dataclass(frozen=True)
class Observers:
    """The plugins that implement hooks for results."""

    of_attempts: Mapping[str, Sequence[tuple[ResultQueue, Hook]]]
    """By provider kind: its owner, then the plugins without a provider."""
    of_requests: Sequence[tuple[ResultQueue, Hook]]
    of_stops: Sequence[tuple[ResultQueue, Hook]] = ()

    def __bool__(self) -> bool:
        """Return whether there are such plugins."""
        return bool(self.of_requests or any(self.of_attempts.values()))

    def end_request(self, attempts: Iterable[tuple[EndedAttempt, AttemptResult]], request: RequestResult) -> None:
        """Deliver the results of a request and its attempts: to each plugin all of them, or none."""
        calls: dict[ResultQueue, list[Call]] = {}
        for attempt, result in attempts:
            for pending, hook in self.of_attempts.get(attempt.upstream.kind, ()):
                calls.setdefault(pending, []).append((ATTEMPT_END, partial(hook, ctx=attempt, result=result)))
        for pending, hook in self.of_requests:
            calls.setdefault(pending, []).append((REQUEST_END, partial(hook, result=request)))
        for pending, plugin_calls in calls.items():
            pending.put(plugin_calls)

    def flush(self, timeout: float) -> None:
        """Deliver all results and call ``on_stop``, for ``timeout`` seconds at most."""
        deadline = time.monotonic() + timeout
        for pending, hook in self.of_stops:
            pending.put([(STOP, partial(_call_before, deadline, hook))])
        for pending in self._queues():
            if not pending.flush(max(0.0, deadline - time.monotonic())):
                log.warning("Results for an observer were not delivered before the process ended")

    def _queues(self) -> Iterable[ResultQueue]:
        registered = itertools.chain(self.of_requests, self.of_stops, *self.of_attempts.values())
        return dict.fromkeys(pending for pending, _ in registered)


def _call_before(deadline: float, hook: Hook) -> None:
    hook(timeout=max(0.0, deadline - time.monotonic()))


NO_OBSERVERS = Observers({}, ())


def build_observers(manager: pluggy.PluginManager, providers: Providers) -> Observers:
    """Find the plugins that implement hooks for results, and create a queue for each."""
    queues = {name: ResultQueue(name) for name, _ in manager.list_name_plugin()}

    def find_hooks(hook: str, kind: str | None = None) -> list[tuple[ResultQueue, Hook]]:
        """Return the plugins that implement ``hook``: the owner of ``kind`` first, without the other owners."""
        owners = providers.owners
        plugins = [
            (name, plugin)
            for name, plugin in manager.list_name_plugin()
            if kind is None or name == owners[kind] or name not in owners.values()
        ]
        plugins.sort(key=lambda entry: kind is not None and entry[0] != owners[kind])
        return [(queues[name], caller) for name, plugin in plugins if (caller := hook_of(manager, hook, plugin))]

    of_attempts = {kind: find_hooks(ATTEMPT_END, kind) for kind in providers.by_kind}
    return Observers(of_attempts, find_hooks(REQUEST_END), find_hooks(STOP))
