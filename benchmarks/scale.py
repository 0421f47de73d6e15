"""What a turn costs on one host with four workers and PostgreSQL, with few stored items and with many.

Two databases of one server hold the same conversations; to one of them many more are added. A gateway runs on each, and
every kind of turn is measured on one after the other.
"""

import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import filling, postgresql, targets
from benchmarks.filling import Written
from benchmarks.postgresql import Server
from benchmarks.processes import read_busy_seconds
from benchmarks.scenarios import ANSWER_DELTAS, Bench, body_of, drive
from benchmarks.wire import Order

WORKERS = 4
CONNECTIONS = 16
"""Clients at saturation."""
GATEWAY = {"workers": str(WORKERS), "history_cache_bytes": "0"}
"""Without the cache of histories, every turn that continues another loads it from the database."""
EMPTY, FULL = "few", "many"
"""The names of the databases."""
SAMPLED = 2000
"""Stored responses that turns continue in a run, each at random."""

SIZES = """
SELECT relname, reltuples::bigint, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class
WHERE relkind = 'r' AND relname LIKE 'responses_%' ORDER BY pg_total_relation_size(oid) DESC
"""


@dataclass(frozen=True)
class Database:
    """A database, the gateway on it, and what is stored there."""

    name: str
    bench: Bench
    written: Written


@dataclass(frozen=True)
class Measured:
    """The figures of one kind of turn on one database, by name."""

    kind: str
    database: str
    figures: dict[str, float]
    problems: list[str] = field(default_factory=list)


FIGURES = {
    "statements": "statements (round trips) per turn",
    "writes": "of these, statements that write",
    "rows": "rows written per turn",
    "commits": "transactions of several statements per turn",
    "wal": "WAL per turn, KB",
    "full_pages": "full pages in the WAL per turn",
    "blocks": "blocks read in tables and indexes per turn",
    "exec_ms": "ms in statements per turn",
    "gateway_ms": "CPU ms of the gateway per turn",
    "database_ms": "CPU ms of PostgreSQL per turn",
    "rate": "turns per second at saturation",
    "busy": "cores in use at saturation",
    "p50": "ms per turn at saturation, p50",
    "p99": "ms per turn at saturation, p99",
    "alone_p50": "ms per turn alone, p50",
    "alone_p99": "ms per turn alone, p99",
    "connections": "connections to PostgreSQL",
}
COMPARED = ("blocks", "exec_ms", "p50", "alone_p50", "database_ms", "gateway_ms", "rate", "wal")
"""Figures of which the ratio is of interest."""


def run(
    upstream_url: str,
    cpus: set[int],
    *,
    items: int,
    conversations: int,
    rounds: int,
    seconds: float,
    report: Callable[[str], None],
) -> Iterator[str]:
    """Measure everything; yield the lines of the result.

    :param items: how many the full database stores.
    :param conversations: how many both databases store from the start.
    :param seconds: of each run.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgresql.server(cpus))
        databases = []
        for name in (EMPTY, FULL):
            server.run(f"CREATE DATABASE {name}")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="floway-bench-")))
            settings = {**GATEWAY, "database_url": server.url(name)}
            target = targets.floway(upstream_url, cpus, folder, settings)
            stack.callback(target.tree.stop)
            written = filling.write_templates(server, name, conversations)
            databases.append(Database(name, Bench(target, cpus, seconds=seconds), written))
            report(f"{name}: {conversations * filling.ITEMS:,} items written")
        yield from _settings(server)
        yield from _fill(server, databases[-1], items, report)
        measured = []
        for number in range(rounds):
            for kind, database in itertools.product(KINDS, databases[:: 1 if number % 2 else -1]):
                measured.append(_measure(server, database, kind))
                one = measured[-1]
                figures = " ".join(f"{name}={value:.4g}" for name, value in one.figures.items())
                report(f"round {number + 1}  {kind:8} {database.name:5} {figures} {' '.join(one.problems)}")
        yield from _table(measured)
        yield from sorted({f"! {problem}" for one in measured for problem in one.problems})


def _settings(server: Server) -> Iterator[str]:
    version = server.run("SHOW server_version")[0][0]
    names = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "max_connections")
    shown = ", ".join(f"{name} {server.run(f'SHOW {name}')[0][0]}" for name in names)
    yield f"PostgreSQL {version}, default settings: {shown}"
    yield f"{WORKERS} workers on each database; load, upstream, gateways and PostgreSQL share the cores"


def _fill(server: Server, database: Database, items: int, report: Callable[[str], None]) -> Iterator[str]:
    began = shown = time.monotonic()
    for stored in filling.copy_templates(server, database.name, database.written.owner, items):
        if time.monotonic() - shown > 15:
            shown = time.monotonic()
            report(f"{stored:,} items after {shown - began:.0f} s")
    for name in (EMPTY, FULL):
        filling.vacuum(server, name)
    report(f"filled after {time.monotonic() - began:.0f} s")
    for table, rows, heap, indexes in server.run(SIZES, name=database.name):
        yield f"{table}: {rows:,} rows, {heap / 1e6:,.0f} MB and {indexes / 1e6:,.0f} MB of indexes"


# ------------------------------------------------------------------------------------------------------------ measuring
def _new(server: Server, database: Database) -> dict[str, Any]:
    """Turns that begin a conversation."""
    return {}


def _chained(server: Server, database: Database) -> dict[str, Any]:
    """Turns that name the response before, in conversations of 20 turns that have just begun."""
    return {"turns": 20}


def _resumed(server: Server, database: Database) -> dict[str, Any]:
    """Turns that name a response stored long ago, any of the key's."""
    query = "SELECT response_id FROM responses_snapshots WHERE api_key_id = %s ORDER BY random() LIMIT %s"
    rows = server.run(query, database.written.owner, SAMPLED, name=database.name)
    return {"each": [{"previous_response_id": response_id} for (response_id,) in rows]}


def _resent(server: Server, database: Database) -> dict[str, Any]:
    """Turns that send the whole history of a stored conversation, which is recognised."""
    question = body_of(Order(ANSWER_DELTAS))["input"]
    return {"each": [{"input": [*history, *question]} for history in database.written.histories]}


KINDS = {"new": _new, "chained": _chained, "resumed": _resumed, "resent": _resent}


def _measure(server: Server, database: Database, kind: str) -> Measured:
    """Run one kind of turn at saturation, then with a single client."""
    order, bench = Order(ANSWER_DELTAS), database.bench
    body, plan = body_of(order, stream=False), KINDS[kind](server, database)
    cpus = bench.cpus
    server.reset()
    before, busy, began = server.tree.cpu(), read_busy_seconds(cpus), time.monotonic()
    run = drive(bench, body, order, connections=CONNECTIONS, seconds=bench.seconds, **plan)
    database_cpu, busy = server.tree.cpu() - before, (read_busy_seconds(cpus) - busy) / (time.monotonic() - began)
    counters, turns = server.counters(database.name), max(1, run.result["complete"])
    connections = server.connections(database.name)
    alone = drive(bench, body, order, seconds=bench.seconds / 2, **plan)
    counted = {
        name: getattr(counters, name) / turns
        for name in ("statements", "writes", "rows", "commits", "full_pages", "blocks", "exec_ms")
    }
    times, alone_times = run.result["total_ms"], alone.result["total_ms"]
    figures = {
        **counted,
        "wal": counters.wal / turns / 1e3,
        "gateway_ms": run.per_answer * 1e3,
        "database_ms": database_cpu / turns * 1e3,
        "rate": turns / run.result["seconds"],
        "busy": busy,
        "p50": times.get("p50", 0.0),
        "p99": times.get("p99", 0.0),
        "alone_p50": alone_times.get("p50", 0.0),
        "alone_p99": alone_times.get("p99", 0.0),
        "connections": connections,
    }
    return Measured(kind, database.name, figures, [*run.result["problems"], *alone.result["problems"]])


# --------------------------------------------------------------------------------------------------------------- result
def _table(measured: list[Measured]) -> Iterator[str]:
    """Yield the lines of a Markdown table: the medians of all rounds."""
    yield ""
    yield "| | " + " | ".join(f"{kind}: {EMPTY} | {FULL} | ×" for kind in KINDS) + " |"
    yield "| --- |" + " ---: |" * (3 * len(KINDS))
    for name, title in FIGURES.items():
        cells = []
        for kind in KINDS:
            few, many = (_median(measured, kind, database, name) for database in (EMPTY, FULL))
            cells += [_format(few), _format(many), f"{many / few:.2f}" if name in COMPARED and few else ""]
        yield f"| {title} | {' | '.join(cells)} |"


def _median(measured: list[Measured], kind: str, database: str, figure: str) -> float:
    return statistics.median(one.figures[figure] for one in measured if (one.kind, one.database) == (kind, database))


def _format(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
