"""A gateway for one test: data folder, settings and plugins of its own, and a server that runs as a real process."""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Self

from floway_core.runtime.plugins import GROUP
from floway_core.runtime.settings_loader import load_settings
from floway_core.storage import keys
from floway_core.storage.db import close_connections, connect
from floway_core.testing.processes import Process, start

TIMEOUT_SECONDS = 30.0
"""Time for a process to start or end."""

POLL_SECONDS = 0.02
"""Time between two checks whether a server is ready."""

LISTENING = "0A"
"""The state of a listening socket in ``/proc/net/tcp``."""

HIDE_PLUGINS = '''"""Imported when Python starts: hides all installed plugins except those that are named."""

import importlib.metadata
import os

find = importlib.metadata.entry_points
shown, folders = {shown!r}, {folders!r}


def entry_points(**query):
    # Without a query, Python 3.11 returns a mapping.
    points = find(**query) if query else [point for group in find().groups for point in find(group=group)]
    return importlib.metadata.EntryPoints(
        point
        for point in points
        if point.group != "floway" or point.name in shown or str(point.dist.locate_file("")).rstrip(os.sep) in folders
    )


importlib.metadata.entry_points = entry_points
'''


class Installation:
    """A data folder with settings and plugins of its own, and the command line with them. A context manager."""

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        plugin_folders: Iterable[Path] = (),
        installed: Iterable[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """:param settings: values by name, such as ``{"idle_timeout": "2"}``.
        :param plugin_folders: folders that ``write_plugin`` has filled.
        :param installed: names of the pip-installed plugins to load; all others are hidden.
        :param environ: further environment variables.
        :raises LookupError: a plugin is not installed.
        """
        installed = tuple(installed)
        if missing := set(installed) - entry_points(group=GROUP).names:
            raise LookupError(f"Not installed: {', '.join(sorted(missing))}. In its folder: pip install -e .")
        self.folder = Path(tempfile.mkdtemp(prefix="floway-test-"))
        self.data_dir = self.folder / "data"
        folders = [str(folder) for folder in plugin_folders]
        (self.folder / "sitecustomize.py").write_text(HIDE_PLUGINS.format(shown=installed, folders=folders))
        self.environ = {
            **{name: value for name, value in os.environ.items() if not _must_be_hidden(name)},
            "PYTHONPATH": os.pathsep.join([str(self.folder), *folders, *filter(None, [os.environ.get("PYTHONPATH")])]),
            "FLOWAY_DATA_DIR": str(self.data_dir),
            "TMPDIR": str(self.folder),
            **{f"FLOWAY_{name.upper()}": value for name, value in (settings or {}).items()},
            **(environ or {}),
        }

    @property
    def database(self) -> Path:
        """The SQLite file, unless the settings name another database."""
        return self.data_dir / "floway.db"

    def run(
        self,
        *arguments: str,
        typed: str = "",
        environ: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``floway ARGUMENTS`` and capture its output. It may fail: check ``returncode``.

        :param typed: text for its standard input.
        :param timeout: in seconds.
        :raises subprocess.TimeoutExpired: the command did not end in time.
        """
        with contextlib.ExitStack() as stack:
            stdin, stdout, stderr = files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
            stdin.write(typed)
            stdin.seek(0)
            process = start(
                arguments,
                {**self.environ, **(environ or {})},
                self.folder,
                stdin=stdin.fileno(),
                stdout=stdout.fileno(),
                stderr=stderr.fileno(),
            )
            try:
                status = process.wait(timeout)
            finally:
                process.kill()
            for file in files:
                file.seek(0)
            return subprocess.CompletedProcess(["floway", *arguments], status, stdout.read(), stderr.read())

    def remove(self) -> None:
        """Delete the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class RunningGateway(Installation):
    """An installation with a running ``floway serve`` on a free port, and an API key. A context manager.

    It takes the arguments of ``Installation``, and has one worker unless the settings differ. When the constructor
    returns, all workers accept connections.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__({"workers": "1", "graceful_timeout": "2", **(settings or {})}, **options)
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


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _must_be_hidden(variable: str) -> bool:
    """Return whether an environment variable is a setting or a proxy of the machine on which the tests run."""
    return variable.startswith("FLOWAY_") or variable.lower().endswith("_proxy")


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
