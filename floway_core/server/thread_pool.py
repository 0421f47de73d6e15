"""The threads of a worker that serve requests."""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

log = logging.getLogger("floway.threads")

IDLE_SECONDS = 60.0
"""Time after which a thread without work ends, so that a burst does not leave its stacks and caches behind for ever."""

Call = Callable[[], None]


class ThreadPool:
    """Runs calls in threads, which start on demand. The thread that was busy last gets the next call.

    It differs from the executor of the standard library if the system allows no further thread: the executor queues the
    call, and the client waits for a thread that may be busy for minutes. This pool refuses the call. Also, threads end
    when they have been idle for long, except those that ``start`` has started. And nobody waits for the result of a
    call, so that it needs no future.
    """

    def __init__(self, limit: int, idle_seconds: float = IDLE_SECONDS) -> None:
        """:param limit: the largest number of threads. Calls beyond it wait for one."""
        self._limit, self._idle_seconds = limit, idle_seconds
        self._lock = threading.Lock()
        """Guards the following attributes."""
        self._count = self._least = 0
        self._idle: list[queue.SimpleQueue[Call | None]] = []
        """Where each thread without a call waits for one. The last is taken first."""
        self._waiting: deque[Call] = deque()
        """Calls for which there is no thread yet."""
        self._is_shut_down = False

    def start(self, count: int) -> None:
        """Have at least ``count`` threads from now on.

        :raises RuntimeError: the system does not allow as many.
        """
        with self._lock:
            self._least = count
            while self._count < count:
                inbox: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
                self._start_thread(inbox)
                self._idle.append(inbox)

    def submit(self, call: Callable[..., None], *arguments: Any) -> None:
        """Run a call in a thread. If it raises, that is logged.

        :raises RuntimeError: all threads are busy, and the system allows no further one; or the pool is shut down.
        """
        run = partial(call, *arguments)
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("the threads have been told to end")
            if self._idle:
                self._idle.pop().put(run)
            elif self._count < self._limit:
                inbox: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
                self._start_thread(inbox)
                inbox.put(run)
            else:
                self._waiting.append(run)

    def shutdown(self, wait: bool = False) -> None:
        """Let each thread end after the calls that have been submitted. gunicorn calls this.

        :param wait: must be false.
        """
        with self._lock:
            self._is_shut_down = True
            for inbox in self._idle:
                inbox.put(None)
            self._idle.clear()

    def _start_thread(self, inbox: "queue.SimpleQueue[Call | None]") -> None:
        threading.Thread(target=self._work, args=(inbox,), name="requests", daemon=True).start()
        self._count += 1

    def _work(self, inbox: "queue.SimpleQueue[Call | None]") -> None:
        while call := self._receive(inbox):
            try:
                call()
            except BaseException:  # the thread has to go on
                log.exception("A call in a thread failed")
            del call  # it refers to a connection
            with self._lock:
                if self._waiting:
                    inbox.put(self._waiting.popleft())
                elif self._is_shut_down:
                    inbox.put(None)
                else:
                    self._idle.append(inbox)

    def _receive(self, inbox: "queue.SimpleQueue[Call | None]") -> Call | None:
        """Wait for the next call of a thread; return None if the thread is to end."""
        while True:
            try:
                return inbox.get(timeout=self._idle_seconds)
            except queue.Empty:
                with self._lock:
                    if inbox in self._idle and self._count > self._least:
                        self._idle.remove(inbox)
                        self._count -= 1
                        return None
