"""An installation for one test: a data folder, settings and plugins of its own, and the command line with them."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Self

from floway_core.runtime.plugins import GROUP
from floway_core.testing.processes import start

TIMEOUT_SECONDS = 60.0
"""Time for a process to start or end."""

HIDE_PLUGINS = '''"""Imported when Python starts: hides all installed plugins except those that are named."""

import importlib.metadata
import os
import sys

find_points, find_distributions = importlib.metadata.entry_points, importlib.metadata.distributions
shown, folders = {shown!r}, {folders!r}
# In a forked process, what it knows of the packages of the interpreter: to read the files of all takes a while.
preload = sys.modules.get("floway_core.testing.preload")


def distributions(**query):
    if preload and not query:
        further = [entry for entry in sys.path if entry not in preload.PATH]
        return [*find_distributions(path=further), *preload.DISTRIBUTIONS]
    return find_distributions(**query)


def entry_points(**query):
    if preload:
        points = [point for dist in distributions() for point in dist.entry_points]
    else:
        # Without a query, Python 3.11 returns a mapping.
        groups = find_points().groups
        points = [point for group in groups for point in find_points(group=group)]
    return importlib.metadata.EntryPoints(
        point
        for point in points
        if point.group != "floway" or point.name in shown or str(point.dist.locate_file("")).rstrip(os.sep) in folders
    ).select(**query)


importlib.metadata.entry_points, importlib.metadata.distributions = entry_points, distributions
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
        :param environ: further environment variables. Processes are forked from one that has imported Floway, unless
            there is one for the interpreter itself, such as ``PYTHONHASHSEED``: then a new one is started.
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

    def add_upstream(self, kind: str, name: str, base_url: str, *options: str, key: str | None = None) -> None:
        """Add an upstream with ``floway upstreams add``, without testing it.

        :param kind: a provider whose upstreams have a URL (``Provider.connection_options``).
        :param options: further options, such as ``--model``.
        :param key: its API key; None: it needs none.
        :raises RuntimeError: the command failed.
        """
        where = ["--no-test", "--base-url", base_url, *(["--key-file", "-"] if key else ["--no-key"])]
        done = self.run("upstreams", "add", kind, name, *where, *options, typed=key or "")
        if done.returncode:
            raise RuntimeError(f"The upstream {name!r} cannot be added: {done.stderr}")

    def remove(self) -> None:
        """Delete the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _must_be_hidden(variable: str) -> bool:
    """Return whether an environment variable is a setting or a proxy of the machine on which the tests run."""
    return variable.startswith("FLOWAY_") or variable.lower().endswith("_proxy")
