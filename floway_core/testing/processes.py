"""Processes that run ``floway``. They are forked from one that has imported everything: that takes most of a start."""

import atexit
import contextlib
import gc
import importlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import reduction
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import floway_core

FOR_THE_INTERPRETER = re.compile("PYTHON(?!PATH$)|LD_|MALLOC_|GLIBC_|LANG|LC_")
"""Environment variables that Python or libc read when they start."""

PRELOADED: list[str] = []
"""Names of further modules for the process from which the others are forked: those that a plugin imports only when it
serves or runs a command. Add them before the first process starts, such as in a ``conftest.py``."""


class Process(Protocol):
    """What tests may use of a process, as of ``subprocess.Popen``."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """The exit status, or the negative number of the signal that ended the process; None: it has not been seen
        to end."""

    def poll(self) -> int | None:
        """Return the exit status if the process has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process, and return its exit status.

        :param timeout: in seconds.
        :raises subprocess.TimeoutExpired: it did not end in time.
        """

    def send_signal(self, signal: int, /) -> None:
        """Send a signal if the process has not ended."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


def start(
    arguments: Sequence[str], environ: Mapping[str, str], folder: Path, *, stdin: int, stdout: int, stderr: int
) -> Process:
    """Start ``floway ARGUMENTS`` as the leader of a session and process group of its own.

    It is a process with its own interpreter, modules and environment, as if it had been started by a shell. If
    ``environ`` has variables for the interpreter itself that differ from those of this process, it is started anew.

    :param folder: its current folder.
    :param stdin: a descriptor, like the other two.
    """
    if _for_the_interpreter(environ) != _for_the_interpreter(os.environ):
        command = [sys.executable, "-m", "floway_core", *arguments]
        streams: dict[str, Any] = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return subprocess.Popen(command, env=environ, cwd=folder, start_new_session=True, **streams)
    return _ForkedProcess(arguments, environ, folder, [_Descriptor(fd) for fd in (stdin, stdout, stderr)])


def _for_the_interpreter(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if FOR_THE_INTERPRETER.match(name)}


class _ForkedProcess:
    """The process that the fork server of ``multiprocessing`` has made, with the interface of ``Process``."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], *options: Any) -> None:
        self._arguments = list(arguments)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*PRELOADED, "floway_core.testing.preload"])
        self._process = context.Process(target=_run, args=(self._arguments, dict(environ), *options), daemon=True)
        with _no_main_module():
            self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired(["floway", *self._arguments], timeout or 0)
        return status

    def send_signal(self, signal: int, /) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide the main module in the block.

    ``multiprocessing`` would import it in the new process, in which a script without a guard would start itself again.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _Descriptor:
    """A descriptor that goes along to the new process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __reduce__(self) -> Any:
        return _detach, (reduction.DupFd(self._fd),)


def _detach(descriptor: Any) -> int:
    return int(descriptor.detach())


def _run(arguments: list[str], environ: Mapping[str, str], folder: Path, descriptors: Sequence[int]) -> None:
    """Run the command line in this process, as a new interpreter would."""
    os.setsid()
    for number, fd in enumerate(descriptors):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115 - as long as the process lives
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
    sys.argv = [str(Path(floway_core.__file__).with_name("__main__.py")), *arguments]
    preload = importlib.import_module("floway_core.testing.preload")
    sys.path[:] = [str(folder), *filter(None, environ.get("PYTHONPATH", "").split(os.pathsep)), *preload.PATH]
    importlib.invalidate_caches()
    sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")
    try:
        sys.exit(_run_command())
    finally:
        atexit._run_exitfuncs()


def _run_command() -> str | int | None:
    """Run the command line, close what it has opened, as the end of an interpreter does, and return its exit status."""
    try:
        importlib.import_module("floway_core.cli").main()
    except SystemExit as end:
        status = end.code
        end.__traceback__ = None  # which refers to connections of the database
    else:
        status = None
    gc.collect()
    return status
