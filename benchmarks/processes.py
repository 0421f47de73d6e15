"""Processes that are measured: starting them on chosen cores, and what they and their children use."""

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def cores() -> tuple[set[int], set[int]]:
    """The core for the load and the one for gateways; the same where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(
    command: list[str], cpus: Iterable[int], *, environ: Mapping[str, str] | None = None, **options
) -> subprocess.Popen:
    """Start a process, and pin it and its children to ``cpus``."""
    wanted = set(cpus)
    environment = {**os.environ, **(environ or {})}
    return subprocess.Popen(command, env=environment, preexec_fn=lambda: os.sched_setaffinity(0, wanted), **options)


@dataclass(frozen=True)
class Memory:
    """What a tree of processes holds, in KiB."""

    total: int
    """PSS: pages that processes share are counted once."""
    largest: int
    """PSS of the largest process: of a worker, where there are workers."""


class Tree:
    """A server with its child processes. A context manager."""

    def __init__(
        self, command: list[str], cpus: Iterable[int], folder: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        """:param folder: where it runs, and where its output goes: ``server.log``."""
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = start(
                command,
                cpus,
                environ=environ,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def cpu(self) -> float:
        """Seconds of CPU time used so far, in user and system mode, also by children that have ended."""
        return sum(sum(map(int, fields[11:15])) for fields in map(_stat, self._pids()) if fields) / TICK

    def memory(self) -> Memory:
        """What the processes hold now."""
        held = [_pss(pid) for pid in self._pids()]
        return Memory(sum(held), max(held))

    def stop(self) -> None:
        """End the processes at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads a process group of its own
        self.process.wait()

    def _pids(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            if fields := _stat(pid):
                children.setdefault(int(fields[1]), []).append(pid)
        found = [self.process.pid]
        for pid in found:  # which grows meanwhile, until nobody has children
            found.extend(children.get(pid, []))
        return found


def busy(cpus: Iterable[int]) -> float:
    """Seconds that ``cpus`` have worked since the machine started, for whomever."""
    names = {f"cpu{cpu}" for cpu in cpus}
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    return sum(int(spent) for name, *fields in lines if name in names for spent in (*fields[:3], *fields[5:8])) / TICK


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` behind the name; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _pss(pid: int) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
