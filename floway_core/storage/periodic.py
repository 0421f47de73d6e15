"""Run periodic work in a background thread."""

import threading
import time
from collections.abc import Callable


def start_periodic(
    name: str, work: Callable[[], object], interval: float, *, starts_at_once: bool = False
) -> threading.Thread:
    """Call ``work`` every ``interval`` seconds, in a daemon thread that ends with the process.

    :param name: name of the thread.
    :param work: must handle its errors: an exception ends the thread.
    :param interval: seconds between the end of a call and the next one.
    :param starts_at_once: make the first call now; otherwise it waits for ``interval``, too.
    :raises RuntimeError: the system cannot start a thread.
    """

    def repeat() -> None:
        if starts_at_once:
            work()
        while True:
            time.sleep(interval)
            work()

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    return thread
