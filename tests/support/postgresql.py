"""A PostgreSQL server for the tests: the one that is named, or one of their own from whatever programs are at hand."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

Entered = TypeVar("Entered")

NAMED = "FLOWAY_TEST_DATABASE_URL"
"""postgresql://USER:PASSWORD@HOST/NAME of a server on which the tests may create databases."""

REQUIRED = "FLOWAY_TEST_REQUIRE_POSTGRESQL"
"""1: not to find a server is a failure instead of a reason to skip."""

# Nothing here has to survive a power cut. Two gateways with two full pools each fit into the connections.
OPTIONS = "-c fsync=off -c listen_addresses='' -c max_connections=200"


class NoServer(Exception):
    """There is none; the message says why."""


@dataclass(frozen=True)
class Own:
    """A server that the tests have started."""

    url: str
    """The URL of a database on it."""
    stop: Callable[[], None]
    """Ends it as a crash would, with all connections."""
    start: Callable[[], None]


@contextlib.contextmanager
def or_skip(server: AbstractContextManager[Entered]) -> Iterator[Entered]:
    """Enter ``server()`` or ``own_server()``. If there is none, the test is skipped, unless it is ``REQUIRED``."""
    try:
        with server as entered:
            yield entered
    except NoServer as reason:
        if os.environ.get(REQUIRED) == "1":
            raise
        pytest.skip(f"no PostgreSQL server: {reason}")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of a database on a server that runs as long as the context.

    :raises NoServer: there is none to be had.
    """
    if importlib.util.find_spec("psycopg2") is None:
        raise NoServer("the driver psycopg2 is not installed")
    if os.environ.get(NAMED):
        yield os.environ[NAMED]
        return
    with own_server() as own:
        yield own.url


@contextlib.contextmanager
def own_server() -> Iterator[Own]:
    """A server that may be stopped and started, and runs as long as the context.

    :raises NoServer: there is none to be had.
    """
    if importlib.util.find_spec("psycopg2") is None:
        raise NoServer("the driver psycopg2 is not installed")
    reasons = []
    for programs in _programs():
        with contextlib.ExitStack() as stack:
            try:
                own = stack.enter_context(_started(programs))
            except (OSError, subprocess.SubprocessError) as error:
                told = getattr(error, "stderr", None) or str(error)
                reasons.append(f"{programs}: {' '.join(told.split())[-200:]}")
                continue
            yield own
            return
    raise NoServer("; ".join(reasons) or f"pgserver is not installed, there is no pg_ctl, and {NAMED} is not set")


def _programs() -> Iterator[Path]:
    """Folders that may hold initdb and pg_ctl."""
    if found := shutil.which("pg_ctl"):
        yield Path(found).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    spec = importlib.util.find_spec("pgserver")
    if spec and spec.origin:
        yield Path(spec.origin).parent / "pginstall" / "bin"


@contextlib.contextmanager
def _started(programs: Path) -> Iterator[Own]:
    folder = Path(tempfile.mkdtemp(prefix="floway-pg-"))  # short: the path of a socket may have 100 characters
    user = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(folder, "nobody", "nogroup")
    data, log = folder / "data", folder / "log"

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, "-D", data, *arguments],
            check=True,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,  # the server keeps pg_ctl's open
            timeout=60,
            cwd=folder,
            **user,
        )

    def start() -> None:
        run("pg_ctl", "-w", "-l", str(log), "-o", f"{OPTIONS} -k {folder}", "start")

    def stop() -> None:
        run("pg_ctl", "-w", "-m", "immediate", "stop")

    try:
        run("initdb", "-U", "floway", "--auth=trust", "--encoding=UTF8", "--no-sync")
        start()
        try:
            yield Own(f"postgresql://floway@/postgres?host={folder}", stop, start)
        finally:
            stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
