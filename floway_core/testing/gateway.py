"""A Floway of its own for a test: its data folder, its settings, its plugins, and a server that really runs."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

PATIENCE = 30.0
"""Seconds after which a process that should start or end is given up."""

HIDES_PLUGINS = '''"""Imported at start-up: hides the plugins that are installed, but for those named."""

import importlib.metadata
import os

find = importlib.metadata.entry_points
shown, folders = {shown!r}, {folders!r}


def entry_points(**query):
    return importlib.metadata.EntryPoints(
        point
        for point in find(**query)
        if point.group != "floway" or point.name in shown or str(point.dist.locate_file("")).rstrip(os.sep) in folders
    )


importlib.metadata.entry_points = entry_points
'''


class Installation:
    """A data folder with settings and plugins of its own; runs the command line with them. A context manager."""

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        plugin_folders: Iterable[Path] = (),
        installed: Iterable[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """:param settings: by name, such as ``{"idle_timeout": "2"}``.
        :param plugin_folders: folders made with ``write_plugin``.
        :param installed: names of those plugins, installed with pip, that are to be loaded; all others are hidden.
        :param environ: further environment variables.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="floway-test-"))
        self.data_dir = self.folder / "data"
        folders = [str(folder) for folder in plugin_folders]
        (self.folder / "sitecustomize.py").write_text(HIDES_PLUGINS.format(shown=tuple(installed), folders=folders))
        self.environ = {
            **{name: value for name, value in os.environ.items() if not _misleading(name)},
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
        timeout: float = PATIENCE,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``floway ARGUMENTS`` and capture what it writes. It may fail: look at ``returncode``.

        :param typed: what it reads from standard input.
        """
        return subprocess.run(
            [sys.executable, "-m", "floway_core", *arguments],
            env={**self.environ, **(environ or {})},
            cwd=self.folder,
            input=typed,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def remove(self) -> None:
        """Delete the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class RunningGateway(Installation):
    """An installation with ``floway serve`` running on a port of its own, and an API key. A context manager.

    Takes the arguments of ``Installation``. One worker, unless the settings say otherwise.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__({"workers": "1", "graceful_timeout": "2", **(settings or {})}, **options)
        self.log_file = self.folder / "gateway.log"
        bind = f"127.0.0.1:{_free_port()}"
        self.url = f"http://{bind}"
        self.process = self._serve(bind)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.remove)
            on_failure.callback(self.kill)
            self.key = self._made("keys", "create", "test").strip()
            self._wait_until_ready()
            on_failure.pop_all()

    @property
    def log(self) -> str:
        """What the server has written to standard output and standard error so far."""
        return self.log_file.read_text(errors="replace")

    def stop(self) -> int:
        """End the server as an operator does, with SIGTERM; running streams may finish.

        :returns: its exit status.
        """
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End the server and its workers at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads a process group of its own
            self.process.wait(PATIENCE)

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.remove()

    def _serve(self, bind: str) -> subprocess.Popen[bytes]:
        with self.log_file.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "floway_core", "serve", "--bind", bind],
                env=self.environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _made(self, *arguments: str) -> str:
        done = self.run(*arguments)
        if done.returncode:
            raise RuntimeError(f"floway {' '.join(arguments)} failed: {done.stderr}")
        return done.stdout

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"The gateway ended with status {self.process.returncode}: {self.log}")
            try:
                with _direct.open(f"{self.url}/readyz", timeout=PATIENCE):
                    return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.02)
        raise RuntimeError(f"The gateway was not ready within {PATIENCE:g} seconds: {self.log}")


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _misleading(variable: str) -> bool:
    """Settings and proxies of the machine on which the tests run."""
    return variable.startswith("FLOWAY_") or variable.lower().endswith("_proxy")


def _free_port() -> int:
    """A port that nobody has. It is none of those that systems give to outgoing connections: between this look and the
    server's, one of them could get it."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
