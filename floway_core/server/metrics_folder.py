"""The folder through which the metrics of all workers are added up."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker
from prometheus_client.multiprocess import mark_process_dead

from floway_core.errors import StartupError
from floway_core.settings import METRICS_FOLDER

OWN_FOLDER_PREFIX = "floway-metrics-"

_locks: list[int] = []
"""The descriptors of own folders. Workers inherit them, so the locks last until the last process has ended."""


def share_metrics() -> None:
    """Create the folder, and remove those of servers that were killed.

    ``gunicorn floway_core.wsgi:app`` uses one, too, if the environment names it and its configuration has
    ``child_exit``.

    :raises StartupError: the folder cannot be created.
    """
    _remove_abandoned(Path(tempfile.gettempdir()))
    try:
        folder = None
        while folder is None:  # another server that starts at the same time may have removed it before it was locked
            folder = _lock(tempfile.mkdtemp(prefix=OWN_FOLDER_PREFIX))
    except OSError as error:
        message = f"A folder for metrics cannot be made: {error.strerror}. FLOWAY_METRICS=off needs none."
        raise StartupError(message) from error
    os.environ[METRICS_FOLDER] = folder


def remove_metrics() -> None:
    """Remove the folder, unless the operator has set it."""
    folder = os.environ.get(METRICS_FOLDER, "")
    if os.path.basename(folder).startswith(OWN_FOLDER_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Remove the gauges of a worker that has ended; its counters stay. A hook for gunicorn's configuration."""
    if folder := os.environ.get(METRICS_FOLDER):
        mark_process_dead(worker.pid, folder)  # type: ignore[no-untyped-call]  # prometheus_client has no annotation


def _lock(folder: str) -> str | None:
    """Lock a folder as long as this process or a child of it runs; return None if it is gone.

    A file system that knows no locks has nobody remove the folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    if not os.path.isdir(folder):
        os.close(descriptor)
        return None
    _locks.append(descriptor)
    return folder


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders that no process has locked."""
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{OWN_FOLDER_PREFIX}*"):
            with contextlib.suppress(OSError), _locked_now(folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked_now(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    :raises OSError: a process has it, or the folder is somebody else's.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
