"""A gateway for one test: an installation with a server that runs as a real process."""

import contextlib
import functools
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from floway_core.runtime.settings_loader import load_settings
from floway_core.storage import keys, migrate
from floway_core.storage.db import close_connections, connect
from floway_core.testing.installation import TIMEOUT_SECONDS, Installation
from floway_core.testing.processes import Process, start

POLL_SECONDS = 0.02
"""Time between two checks whether a server is ready."""

SMALL = {"workers": "1", "threads": "128", "graceful_timeout": "2"}
"""Settings for a quick start and end: each worker tries at its start whether it may have all its threads."""

OTHER_DATABASE = {"FLOWAY_CONFIG", "FLOWAY_DATABASE_URL", "FLOWAY_DATABASE_URL_FILE"}
"""Variables that may name another database than the file in the data folder."""

LISTENING = "0A"
"""The state of a listening socket in ``/proc/net/tcp``."""


class RunningGateway(Installation):
    """An installation with a running ``floway serve`` on a free port, and an API key. A context manager.

    It takes the arguments of ``Installation``, and is ``SMALL`` unless the settings differ. When the constructor
    returns, all workers accept connections.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__({**SMALL, **(settings or {})}, **options)
        if not OTHER_DATABASE & self.environ.keys() and self.environ["FLOWAY_DATA_DIR"] == str(self.data_dir):
            self.data_dir.mkdir(mode=0o700)
            self.database.touch(mode=0o600)
            self.database.write_bytes(_migrated_database())
        self.log_file = self.folder / "gateway.log"
        self._port = _free_port()
        self._bind = f"127.0.0.1:{self._port}"
        self.url = f"http://{self._bind}"
        self.process = self._serve(self._bind)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.remove)
            on_failure.callback(self.kill)
            self._wait_until_ready()
            self.key = self._create_key()
            on_failure.pop_all()

    @property
    def log(self) -> str:
        """Standard output and standard error of the server so far."""
        return self.log_file.read_text(errors="replace")

    def wait_for_log(self, text: str, start: int = 0, timeout: float = TIMEOUT_SECONDS) -> list[str]:
        """Wait until the log contains ``text``. The line of a request may be written a moment after its last byte.

        :param start: the position in the log at which to start, such as an earlier ``len(gateway.log)``.
        :param timeout: in seconds.
        :returns: the lines that contain it.
        :raises TimeoutError: it does not appear in time.
        """
        deadline = time.monotonic() + timeout
        while text not in (log := self.log[start:]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{text!r} is not in the log: {log}")
            time.sleep(POLL_SECONDS)
        return [line for line in log.splitlines() if text in line]

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that accept connections, without those that are starting or stopping.

        :raises FileNotFoundError: the server has ended.
        """
        listeners = _find_listening_sockets(self._port)
        return [pid for pid in self.worker_processes if _accepts_connections(pid, listeners)]

    @property
    def worker_processes(self) -> list[int]:
        """The process ids of all workers, including those that are starting or stopping.

        :raises FileNotFoundError: the server has ended.
        """
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self) -> int:
        """Stop the server with SIGTERM, as an operator does; running streams may finish.

        :returns: its exit status.
        :raises subprocess.TimeoutExpired: it did not end in time, and was killed.
        """
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def restart(self) -> None:
        """Start the server again, after it has ended, at the same address. Its log goes on."""
        self.process = self._serve(self._bind)
        self._wait_until_ready()

    def kill(self) -> None:
        """Kill the server and its workers."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads a process group of its own
            self.process.wait(TIMEOUT_SECONDS)

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.remove()

    def _serve(self, bind: str) -> Process:
        with self.log_file.open("ab") as log, open(os.devnull) as nothing:
            streams = {"stdin": nothing.fileno(), "stdout": log.fileno(), "stderr": log.fileno()}
            return start(["serve", "--bind", bind], self.environ, self.folder, **streams)

    def _create_key(self) -> str:
        """Create an API key as ``floway keys create test`` does, in this process: starting one takes half a second."""
        if "FLOWAY_CONFIG" in self.environ:  # the file may have settings of plugins, which only the command can read
            result = self.run("keys", "create", "test")
            if result.returncode:
                raise RuntimeError(f"floway keys create test failed: {result.stderr}")
            return result.stdout.strip()
        names = ("FLOWAY_DATA_DIR", "FLOWAY_DATABASE_URL", "FLOWAY_DATABASE_URL_FILE")
        settings = load_settings({name: self.environ[name] for name in names if name in self.environ})
        database = connect(settings.database_url)
        try:
            return keys.create(database, "test")
        finally:
            close_connections(database)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"The gateway ended with status {self.process.returncode}: {self.log}")
            try:
                with _direct.open(f"{self.url}/readyz", timeout=TIMEOUT_SECONDS):
                    break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(POLL_SECONDS)
        count = int(self.environ["FLOWAY_WORKERS"])
        while time.monotonic() < deadline:
            if count == 1 or len(self.workers) == count:  # a single one has just answered
                return
            time.sleep(POLL_SECONDS)
        raise RuntimeError(f"The gateway was not ready within {TIMEOUT_SECONDS:g} seconds: {self.log}")


@functools.cache
def _migrated_database() -> bytes:
    """Return an SQLite file with the tables of core. To write it takes a fraction of the time of the migrations."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "floway.db"
        database = connect(f"sqlite:///{file}")
        migrate.apply(database, [migrate.CORE])
        close_connections(database)
        return file.read_bytes()


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _find_listening_sockets(port: int) -> set[int]:
    """Return the inode numbers of the sockets that listen on a TCP port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[9]) for row in rows if row[3] == LISTENING and int(row[1].rpartition(":")[2], 16) == port}


def _accepts_connections(pid: int, listeners: Collection[int]) -> bool:
    """Return whether a process waits for connections: one of its epoll descriptors watches one of ``listeners``."""
    with contextlib.suppress(OSError):  # the process has just ended, or has closed a descriptor
        for info in Path(f"/proc/{pid}/fdinfo").iterdir():
            watched = re.findall(r"^tfd:.* ino:([0-9a-f]+)", info.read_text(), re.MULTILINE)
            if any(int(inode, 16) in listeners for inode in watched):
                return True
    return False


def _free_port() -> int:
    """Return a free port, outside of the range that systems use for outgoing connections: one of these could take the
    port before the server binds it."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
