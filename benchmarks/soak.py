"""A soak: a mixed load for many minutes, after which Floway may hold no more than it did after the first ones.

Each period runs every kind of load and the odd clients at the same time, then deletes the conversations that nobody has
used since the period before, and then counts what the gateway holds while nobody asks for anything.
"""

import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from benchmarks import chat_wire, messages, targets
from benchmarks.odd_clients import OddClients
from benchmarks.processes import ProcessTree
from benchmarks.scenarios import Bench, body_of, chat_body, drive, history_of
from benchmarks.targets import Target
from benchmarks.wire import Order

SETTINGS = {"workers": "2", "metrics": "open", "history_cache_bytes": str(8 * 2**20)}
"""The cache of histories fills in the first minutes."""

MIN_SAMPLES = 6
"""The number of periods that are needed to judge."""

SETTLING_SECONDS = 2.0
"""Time for the gateway to close the connections of clients that are gone."""

TOLERANCES = {
    "memory": (0.05, 2.0),
    "largest": (0.05, 2.0),
    "descriptors": (0.05, 8),
    "threads": (0.10, 8),
    "rows": (0.20, 500),
    "database": (0.20, 4.0),
    "temporary": (0.05, 64),
}
"""By column of ``Sample``: the growth that is tolerated, as a fraction or in units of the column, whichever is more."""

STORED = frozenset({"rows", "database"})
"""The columns that follow from the requests of the period: what it has stored is deleted at the end of the next one."""


@dataclass(frozen=True)
class Sample:
    """What the gateway holds at the end of a period."""

    minute: float
    requests: int
    """Of this period; each was checked."""
    memory: float
    """MiB (PSS) of all processes."""
    largest: float
    """MiB (PSS) of the largest process."""
    descriptors: int
    threads: int
    rows: int
    """Of all tables."""
    database: float
    """MiB of SQLite's file that are in use. The file itself keeps the size of the busiest period, and uses it again."""
    temporary: float
    """KiB of temporary files."""


@dataclass
class Soak:
    """The result."""

    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Requests that went wrong."""

    @property
    def growing(self) -> list[str]:
        """The columns in which the last third is higher than both thirds before, beyond the tolerance."""
        if len(self.samples) < MIN_SAMPLES:
            return []
        return [name for name, tolerance in TOLERANCES.items() if _is_growing(self._levels(name), *tolerance)]

    def _levels(self, name: str) -> list[float]:
        """Return a column; what is stored as if each period had had the same number of requests."""
        usual = statistics.median(one.requests for one in self.samples)
        return [
            getattr(one, name) * (usual / one.requests if name in STORED and one.requests else 1)
            for one in self.samples
        ]

    @property
    def passed(self) -> bool:
        """Whether nothing went wrong and nothing grew."""
        return bool(self.samples) and not self.problems and not self.growing


def _is_growing(levels: list[float], fraction: float, units: float) -> bool:
    third = len(levels) // 3
    before = max(statistics.median(levels[:third]), statistics.median(levels[third : 2 * third]))
    return statistics.median(levels[-third:]) > before + max(before * fraction, units)


def run(
    upstream_url: str, load_cpus: set[int], gateway_cpus: set[int], minutes: float, period: float
) -> Iterator[Soak]:
    """Yield the result so far after each period of ``period`` seconds."""
    with tempfile.TemporaryDirectory(prefix="floway-bench-") as name:
        folder, soak, began, logged = Path(name), Soak(), time.monotonic(), 0
        (folder / "temporary").mkdir()
        environ = {"TMPDIR": str(folder / "temporary")}
        target = targets.floway(upstream_url, gateway_cpus, folder, SETTINGS, variables=environ)
        try:
            while not soak.samples or time.monotonic() - began < minutes * 60:
                requests, problems = _one_period(target, load_cpus, period)
                soak.problems += problems
                log = target.tree.log.read_text(errors="replace")
                soak.problems += [line for line in log[logged:].splitlines() if _is_error(line)]
                logged = len(log)
                _sweep(folder, before=time.time() - period)
                time.sleep(SETTLING_SECONDS)
                soak.samples.append(_count((time.monotonic() - began) / 60, requests, target.tree, folder))
                yield soak
        finally:
            target.tree.stop()


def _is_error(line: str) -> bool:
    """Return whether a line of the gateway's log tells why a request went wrong."""
    return " ERROR " in line or line.startswith("Traceback")


def _one_period(target: Target, cpus: set[int], seconds: float) -> tuple[int, list[str]]:
    """Run all kinds of load at once; return the number of requests, and what went wrong."""
    bench = Bench(target, cpus, seconds=seconds)
    loads, odd, over = list(_loads(bench)), OddClients(target), threading.Event()
    with ThreadPoolExecutor(len(loads) + 1) as pool:
        oddities = pool.submit(odd.run, over)
        runs = [pool.submit(drive, bench, body, order, seconds=seconds, **plan) for body, order, plan in loads]
        results = [run.result().result for run in runs]
        over.set()
        oddities.result()
    problems = [problem for result in results for problem in result["problems"]] + odd.problems
    return sum(result["complete"] for result in results) + odd.requests, problems


def _loads(bench: Bench) -> Iterator[tuple[dict[str, Any], Order, dict[str, Any]]]:
    """Yield body, order and plan of each kind of load. All are slow enough to leave the processors some rest."""
    url, chat_model = bench.target.url, bench.target.chat_model
    stream, turn = Order(20, 20_000), Order(4, 20_000)
    yield body_of(stream), stream, {"connections": 12}
    yield body_of(turn), turn, {"connections": 6, "turns": 20}
    yield body_of(stream, history=history_of(64)), stream, {"connections": 4}  # calls of tools and their results
    yield {**body_of(stream, store=False), "model": chat_model}, stream, {"connections": 6, "exact": False}
    chat = {"connections": 6, "url": url.replace("/responses", chat_wire.PATH), "api": "chat"}
    yield chat_body(stream, stream=True), stream, chat
    yield messages.body_of(stream), stream, {"connections": 6, "url": urljoin(url, messages.PATH), "api": "messages"}


def _sweep(folder: Path, before: float) -> None:
    """Let the conversations that were last used before then expire, and delete them."""
    with sqlite3.connect(folder / "data" / "floway.db", timeout=60) as database:
        database.execute("UPDATE responses_conversations SET used_at = 0 WHERE used_at < ?", (int(before),))
    database.close()
    targets.command(folder, "retention", "run")


def _count(minute: float, requests: int, tree: ProcessTree, folder: Path) -> Sample:
    data, memory = folder / "data", tree.memory()
    database = sqlite3.connect(f"file:{data / 'floway.db'}?mode=ro", uri=True)
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = sum(database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables)
    pages, free, page_size = (
        database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    database.close()
    descriptors, threads = tree.descriptors_and_threads()
    return Sample(
        minute,
        requests,
        memory.total / 1024,
        memory.largest / 1024,
        descriptors,
        threads,
        rows,
        (pages - free) * page_size / 2**20,
        _size(folder / "temporary") / 1024,
    )


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def format_heading() -> str:
    """Return the first line of the table."""
    return " ".join(f"{column.name:>11}" for column in fields(Sample))


def format_sample(sample: Sample) -> str:
    """Return one line of the table."""
    return " ".join(f"{value:>11,.1f}" if isinstance(value, float) else f"{value:>11,}" for value in astuple(sample))


def format_result(soak: Soak) -> Iterator[str]:
    """Return the lines below the table."""
    for problem in sorted(set(soak.problems)):
        yield f"{soak.problems.count(problem)} × {problem}"
    if len(soak.samples) < MIN_SAMPLES:
        yield f"Too short to judge what grows: {MIN_SAMPLES} periods are needed."
    else:
        yield f"Growing: {', '.join(soak.growing)}" if soak.growing else "Nothing grows."
