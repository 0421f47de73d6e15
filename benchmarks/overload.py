"""Load tests of Floway with default settings: many slow streams for minutes, and more streams than the limit."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import scenarios, targets
from benchmarks.scenarios import Bench, Metrics, body_of, drive
from benchmarks.targets import Target
from benchmarks.wire import Order

STEPS = 8
"""The number of points in time at which memory is shown, and of measurements that are needed to judge its growth."""
FLAT = 0.05
"""The growth of memory that is tolerated while the same streams run, as a fraction."""


def cores() -> tuple[set[int], set[int]]:
    """Return the cores for the load and the last two, for the gateway. If there are only two, both use them."""
    usable = sorted(os.sched_getaffinity(0))
    return set(usable[:-2] or usable), set(usable[-2:])


@dataclass(frozen=True)
class HeldStreams:
    """The result of many slow streams."""

    metrics: Metrics

    @property
    def passed(self) -> bool:
        """Whether nothing was lost and memory did not grow."""
        levels = [held for _, held in self.metrics.get("memory", [])]
        flat = len(levels) < STEPS or max(levels[len(levels) // 2 :]) <= levels[len(levels) // 4] * (1 + FLAT)
        return bool(self.metrics["complete"]) and flat and not self.metrics["failed"] + self.metrics["unfinished"]


def hold(
    upstream_url: str, load_cpus: set[int], gateway_cpus: set[int], streams: int, seconds: float, ramp: float
) -> HeldStreams:
    """``streams`` streams at the same time, each for ``seconds``."""
    with _floway(upstream_url, gateway_cpus) as target:
        return HeldStreams(scenarios.held(Bench(target, load_cpus, hold_seconds=seconds, ramp=ramp), streams))


def format_held(held: HeldStreams, streams: int, seconds: float) -> Iterator[str]:
    """Return the lines of the report."""
    metrics, levels = held.metrics, held.metrics.get("memory", [])
    yield f"{streams} streams, 10 events per second each, for {seconds:g} seconds"
    yield f"  complete, every byte checked {metrics['complete']:>8,}"
    yield f"  lost, altered or refused     {metrics['failed']:>8,}"
    yield f"  unfinished                   {metrics['unfinished']:>8,}"
    yield f"  events per second            {metrics['rate']:>8,.0f}"
    yield f"  delay of an event, ms        {_of(metrics, 'delay')}"
    yield f"  CPU, % of a core             {metrics['cpu_percent']:>8.1f}"
    yield f"  memory per stream, KiB       {metrics.get('stream_kib', 0):>8.0f}"
    for at, level in [levels[step * (len(levels) - 1) // STEPS] for step in range(STEPS + 1) if levels]:
        yield f"  memory after {at:>5.0f} s, MiB     {level / 1024:>8.1f}"
    yield from (f"  {problem}" for problem in metrics["problems"])


def _of(metrics: Metrics, name: str) -> str:
    return ", ".join(f"{part} {metrics[f'{name}_{part}'] or 0:.1f}" for part in ("p50", "p99", "max"))


# ----------------------------------------------------------------------------------------------------- too many streams
@dataclass(frozen=True)
class Overload:
    """The result of more streams than the limit."""

    result: dict[str, Any]
    streams: int
    afterwards: bool
    """Whether a request was served after the burst."""

    @property
    def passed(self) -> bool:
        """Whether each request was served completely or refused properly, and both occurred."""
        refused = self.result["statuses"].get("503", 0)
        served = self.result["complete"]
        return bool(
            served
            and refused == self.result["retry_after"] > 0
            and served + refused == self.streams
            and self.afterwards
        )


def exceed_limit(
    upstream_url: str, load_cpus: set[int], gateway_cpus: set[int], threads: int, order: Order
) -> Overload:
    """Open three streams at once for every two that the limit allows.

    :param threads: the limit of each of the two workers.
    """
    settings = {"workers": "2", "threads": str(threads)}
    with _floway(upstream_url, gateway_cpus, settings) as target:
        streams, bench = 3 * threads, Bench(target, load_cpus)
        run = drive(bench, body_of(order), order, connections=streams, requests=streams)
        after = drive(bench, body_of(Order(1)), Order(1), requests=1)
        return Overload(run.result, streams, after.result["complete"] == 1)


def format_overload(refused: Overload) -> Iterator[str]:
    """Return the lines of the report."""
    result = refused.result
    others = {status: count for status, count in result["statuses"].items() if status not in ("200", "503")}
    yield f"{refused.streams} streams at once, {refused.streams * 2 // 3} slots"
    yield f"  complete, every byte checked {result['complete']:>8,}"
    yield f"  503 with retry-after         {result['retry_after']:>8,}"
    yield f"  503 without                  {result['statuses'].get('503', 0) - result['retry_after']:>8,}"
    yield f"  other statuses               {sum(others.values()):>8,}"
    yield f"  broken or unfinished         {refused.streams - sum(result['statuses'].values()):>8,}"
    yield f"  longest wait for a 503, ms   {result['refusal_ms'].get('max', 0):>8,.0f}"
    yield f"  served afterwards            {'yes' if refused.afterwards else 'no':>8}"
    if not refused.passed:
        yield from (f"  {count} × {problem}" for problem, count in result["problems"].items())


@contextlib.contextmanager
def _floway(upstream_url: str, cpus: set[int], settings: dict[str, str] | None = None) -> Iterator[Target]:
    with tempfile.TemporaryDirectory(prefix="floway-bench-") as folder:
        target = targets.floway(upstream_url, cpus, Path(folder), settings)
        try:
            yield target
        finally:
            target.tree.stop()
