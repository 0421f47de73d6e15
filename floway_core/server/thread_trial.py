"""Test at the start whether the system allows the threads that the settings need.

Users, containers, units and memory limit them. So the threads are actually started, in processes that end at once.
"""

import _thread
import contextlib
import os
import select
from collections.abc import Callable

TIMEOUT_SECONDS = 10.0
"""Time for the processes to start their threads."""


def start_trial(processes: int, threads: int) -> Callable[[], int]:
    """Start to test whether ``processes`` processes can have ``threads`` threads each at the same time.

    Call it before this process has threads.

    :returns: waits for the result, and returns the number of threads that every process can have.
    """
    results, result_writer = os.pipe()
    release, release_writer = os.pipe()
    children: list[int] = []
    with contextlib.suppress(OSError):  # no further process
        while len(children) < processes:
            if not (pid := os.fork()):
                _hold_threads(threads, result_writer, release, release_writer)
            children.append(pid)
    os.close(result_writer)
    os.close(release)

    def finish() -> int:
        counts: list[int] = []
        while len(counts) < len(children) and select.select([results], [], [], TIMEOUT_SECONDS)[0]:
            if not (data := os.read(results, 4)):
                break
            counts.append(int.from_bytes(data))
        os.close(release_writer)
        os.close(results)
        for pid in children:
            os.waitpid(pid, 0)
        return min(counts) if len(counts) == processes else 0

    return finish


def _hold_threads(threads: int, result_writer: int, release: int, release_writer: int) -> None:
    """Start threads, report their number, and end when the parent closes ``release_writer``, or has ended."""
    try:
        os.close(release_writer)
        count, lock = 0, _thread.allocate_lock()
        lock.acquire()
        with contextlib.suppress(RuntimeError):  # no further thread
            while count < threads:
                _thread.start_new_thread(lock.acquire, ())  # ends with the process
                count += 1
        os.write(result_writer, count.to_bytes(4))
        os.read(release, 1)
    finally:
        os._exit(0)
