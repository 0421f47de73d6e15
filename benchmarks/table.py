"""Results as a table: a row for each figure, a column for each gateway, and its ratio to the first of them.

A figure is the median over the rounds. A lost, altered or refused response makes its scenario ``invalid``. A
response that is not complete within the time limit makes it ``too slow``.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]
"""``about``, ``targets`` (name, version, started, idle), and ``runs`` (target, scenario, round and metrics)."""

NOTHING = "–"
INVALID = "invalid"
TOO_SLOW = "too slow"


@dataclass(frozen=True)
class Figure:
    """One row."""

    title: str
    scenario: str
    metric: str
    digits: int = 0
    added: bool = False
    """Show the difference from the figure of the fake upstream alone."""
    ratio: bool = True


@dataclass(frozen=True)
class Group:
    """Some rows under one heading."""

    title: str
    figures: tuple[Figure, ...]


def _hold_group(streams: int) -> Group:
    name = f"hold{streams}"
    return Group(
        f"{streams:,} streams, 10 events/s each",
        (
            Figure("CPU, % of a core", name, "cpu_percent", 1),
            Figure("CPU µs per event", name, "event_us", 1),
            Figure("delay of an event p50, ms", name, "delay_p50", 2),
            Figure("delay of an event p99, ms", name, "delay_p99", 1),
            Figure("longest delay, ms", name, "delay_max", 0, ratio=False),
            Figure("first byte p99, ms", name, "first_p99", 0, ratio=False),
            Figure("memory per stream, KiB", name, "stream_kib", 0),
            Figure("growth while they run, KiB", name, "growth_kib", 0, ratio=False),
        ),
    )


GROUPS = (
    Group(
        "Requests that do not stream",
        (
            Figure("CPU ms, not stored", "request", "cpu_ms", 3),
            Figure("CPU ms, stored", "stored", "cpu_ms", 3),
            Figure("CPU ms with 64 KiB of history, not stored", "history", "cpu_ms", 3),
            Figure("CPU ms with 64 KiB of history sent again, stored", "resent", "cpu_ms", 3),
            Figure("requests per second, not stored", "request", "rate", 0, ratio=False),
            Figure("added time p50, ms", "alone", "p50", 2, added=True),
            Figure("added time p99, ms", "alone", "p99", 2, added=True),
        ),
    ),
    Group(
        "Streams",
        (
            Figure("CPU ms per stream", "slow", "stream_ms", 2),
            Figure("CPU µs per event, slow", "slow", "event_us", 1),
            Figure("CPU µs per event, burst", "burst", "event_us", 2),
            Figure("events per second, burst", "burst", "rate", 0, ratio=False),
            Figure("added time to first byte p50, ms", "first", "first_p50", 2, added=True),
            Figure("added time to first byte p99, ms", "first", "first_p99", 2, added=True),
            Figure("added delay of an event p50, ms", "first", "delay_p50", 3, added=True),
            Figure("added delay of an event p99, ms", "first", "delay_p99", 2, added=True),
        ),
    ),
    Group(
        "Turns that name the response before",
        (
            Figure("CPU ms per turn, in 20 turns", "chained", "cpu_ms", 2),
            Figure("time per turn p50, ms, in 20 turns", "chained", "p50", 2),
            Figure("CPU ms of a request as long, not stored", "long-request", "cpu_ms", 2),
            Figure("CPU ms per turn, end of a long conversation", "long-chain", "cpu_ms", 2),
            Figure("time per turn p50, ms, end of a long conversation", "long-chain", "p50", 2),
        ),
    ),
)


def _translated(title: str, scenario: str, storing: str = "not stored") -> Group:
    return Group(
        title,
        (
            Figure(f"CPU ms of a request, {storing}", scenario, "cpu_ms", 3),
            Figure("CPU µs per event, slow", scenario, "slow_us", 1),
            Figure("CPU µs per event, burst", scenario, "event_us", 2),
        ),
    )


TRANSLATED = (
    _translated("Chat client, Responses upstream", "chat-door"),
    _translated("Responses client, chat upstream", "chat-upstream"),
    _translated("Messages client, Responses upstream", "messages", "stored"),
    _translated("generateContent client, Responses upstream", "gemini", "stored"),
)


def lines(result: Result, markdown: bool = False) -> Iterator[str]:
    """Yield the lines of the table, after what one has to know to judge it."""
    names = [target["name"] for target in result["targets"]]
    gateways = [name for name in names if name != "direct"]
    header = ["", *(["direct"] if "direct" in names else [])]
    for name in gateways:
        header += [name] if name == gateways[0] else [name, "×"]
    holds = sorted({int(run["scenario"][4:]) for run in result["runs"] if run["scenario"].startswith("hold")})
    groups = (*GROUPS, *TRANSLATED, *map(_hold_group, holds))
    rows = [row for group in groups for row in _rows(result, group, header, gateways)]
    rows += _starts(result, header, gateways)
    versions = ", ".join(f"{target['name']} {target['version']}" for target in result["targets"] if target["version"])
    for about, value in {**result["about"], "versions": versions}.items():
        yield f"{'* ' if markdown else ''}{about}: {value}"
    yield ""
    yield from (_markdown if markdown else _aligned)(header, rows)
    yield from _problems(result)


def _rows(result: Result, group: Group, header: Sequence[str], gateways: Sequence[str]) -> Iterator[list[str]]:
    figures = [figure for figure in group.figures if _measured(result, figure)]
    if figures:
        yield [f"**{group.title}**", *[""] * (len(header) - 1)]
    for figure in figures:
        direct = [_format(_value(result, "direct", figure), figure.digits)] if "direct" in header else []
        values = [_value(result, name, figure) for name in gateways]
        yield [figure.title, *direct, *_cells(values, figure.digits, ratio=figure.ratio)]


def _starts(result: Result, header: Sequence[str], gateways: Sequence[str]) -> Iterator[list[str]]:
    """Rows about the start, which is not a scenario."""
    targets = {target["name"]: target for target in result["targets"]}
    yield ["**Start and idle**", *[""] * (len(header) - 1)]
    for title, place, name, scale, digits in (
        ("seconds to the first answer", "started", "seconds", 1, 2),
        ("CPU seconds to the first answer", "started", "cpu", 1, 2),
        ("idle, MiB (PSS), largest process", "idle", "largest", 1024, 0),
        ("idle, MiB (PSS), all processes", "idle", "total", 1024, 0),
    ):
        values = [targets[gateway][place][name] / scale for gateway in gateways]
        yield [title, *([NOTHING] if "direct" in header else []), *_cells(values, digits)]


def _cells(values: Sequence[float | str | None], digits: int, ratio: bool = True) -> Iterator[str]:
    """Yield a cell for the first gateway, and two for each other one: the value and its ratio to the first one's."""
    yield _format(values[0], digits)
    for value in values[1:]:
        yield _format(value, digits)
        yield _ratio(value, values[0]) if ratio else ""


def _runs(result: Result, target: str, scenario: str) -> list[dict[str, Any]]:
    return [run for run in result["runs"] if (run["target"], run["scenario"]) == (target, scenario)]


def _measured(result: Result, figure: Figure) -> bool:
    return any(run["scenario"] == figure.scenario for run in result["runs"])


def _value(result: Result, target: str, figure: Figure) -> float | str | None:
    """Return the median, the reason why there is none, or None if nothing was measured."""
    runs = _runs(result, target, figure.scenario)
    if any(run["failed"] for run in runs):
        return INVALID
    if any(run["unfinished"] or not run["complete"] for run in runs):
        return TOO_SLOW
    values = [run[figure.metric] for run in runs if run.get(figure.metric) is not None]
    if not values:
        return None
    value = statistics.median(values)
    if figure.added and target != "direct":
        alone = _value(result, "direct", figure)
        return value - alone if isinstance(alone, float) else None
    return value if target != "direct" or not figure.metric.startswith(("cpu", "event", "stream", "growth")) else None


def _format(value: float | str | None, digits: int) -> str:
    return NOTHING if value is None else value if isinstance(value, str) else f"{value:,.{digits}f}"


def _ratio(value: float | str | None, reference: float | str | None) -> str:
    if not isinstance(value, (int, float)) or not isinstance(reference, (int, float)) or reference <= 0:
        return ""
    ratio = value / reference
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


def _problems(result: Result) -> Iterator[str]:
    for run in result["runs"]:
        if run["failed"] or run["unfinished"]:
            counts = f"{run['complete']} complete, {run['failed']} failed, {run['unfinished']} unfinished"
            yield ""
            problems = [problem[:150] for problem in run["problems"]]
            yield ". ".join([f"{run['target']}, {run['scenario']}: {counts}", *problems])


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    plain = [[cell.replace("**", "") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *plain, strict=True)]
    for row, styled in zip([header, *plain], [header, *rows], strict=True):
        if styled[0].startswith("**"):
            yield ""
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([first.strip().ljust(widths[0]), *rest]).rstrip()


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"| --- |{' ---: |' * (len(header) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
