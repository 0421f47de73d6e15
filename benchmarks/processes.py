"""The processes to measure: start them on given cores, and read the CPU time and memory of them and their children."""

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
    """Return the cores for the load and for the gateways; the same one if there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(
    command: list[str], cpus: Iterable[int], *, environ: Mapping[str, str] | None = None, **options
) -> subprocess.Popen:
    """Start a process, and pin it and its children to ``cpus``."""
    cores = set(cpus)
    environment = {**os.environ, **(environ or {})}
    return subprocess.Popen(command, env=environment, preexec_fn=lambda: os.sched_setaffinity(0, cores), **options)


@dataclass(frozen=True)
class Memory:
    """The memory of a process tree, in KiB."""

    total: int
    """PSS, which counts shared pages once."""
    largest: int
    """PSS of the largest process, usually a worker."""


class ProcessTree:
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
        return sum(sum(map(int, fields[11:15])) for fields in map(_stat, self.pids()) if fields) / TICK

    def memory(self) -> Memory:
        """Return the present memory of the processes."""
        sizes = [_pss(pid) for pid in self.pids()]
        return Memory(sum(sizes), max(sizes))

    def descriptors_and_threads(self) -> tuple[int, int]:
        """Return how many descriptors and threads the processes have at present."""
        pids = self.pids()
        return tuple(sum(len(os.listdir(f"/proc/{pid}/{kind}")) for pid in pids) for kind in ("fd", "task"))

    def stop(self) -> None:
        """End the processes at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads a process group of its own
        self.process.wait()

    def pids(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            if fields := _stat(pid):
                children.setdefault(int(fields[1]), []).append(pid)
        pids = [self.process.pid]
        for pid in pids:  # the list grows meanwhile
            pids.extend(children.get(pid, []))
        return pids


def read_busy_seconds(cpus: Iterable[int]) -> float:
    """Return the seconds of CPU time that all processes have used on ``cpus`` since the machine started."""
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
        match = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) if match else 0
