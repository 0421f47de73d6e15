"""The threads of a worker that serve requests."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class ThreadPool:
    """Runs calls in threads, which start on demand and never end.

    It differs from the executor of the standard library if the system allows no further thread: the executor queues the
    call, and the client waits for a thread that may be busy for minutes. This pool refuses the call.
    """

    def __init__(self, limit: int) -> None:
        """:param limit: the largest number of threads. Calls beyond it wait for one."""
        self._limit = limit
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        """Guards the following attributes."""
        self._count = 0
        self._spare = 0
        """Threads without a call, minus calls that wait for a thread."""
        self._is_shut_down = False

    def start(self, count: int) -> None:
        """Start ``count`` threads.

        :raises RuntimeError: the system does not allow as many.
        """
        with self._lock:
            while self._count < count:
                self._start_thread()

    def submit(self, call: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Run a call in a thread.

        :raises RuntimeError: all threads are busy, and the system allows no further one; or the pool is shut down.
        """
        future: Future[Any] = Future()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("the threads have been told to end")
            if self._spare <= 0 and self._count < self._limit:
                self._start_thread()
            self._spare -= 1
            self._calls.put(lambda: _run(future, call, arguments))
        return future

    def shutdown(self, wait: bool = False) -> None:
        """Let each thread end after the calls that have been submitted. gunicorn calls this.

        :param wait: must be false.
        """
        with self._lock:
            self._is_shut_down = True
            for _ in range(self._count):
                self._calls.put(None)

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, name="requests", daemon=True).start()
        self._count += 1
        self._spare += 1

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # it refers to a connection
            with self._lock:
                self._spare += 1


def _run(future: "Future[Any]", call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        result = call(*arguments)
    except BaseException as error:  # noqa: BLE001 - whoever asks the future for its result raises it
        future.set_exception(error)
    else:
        future.set_result(result)
