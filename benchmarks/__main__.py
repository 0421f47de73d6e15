"""Measures Floway, alone or beside other gateways, and prints a table.

    python -m benchmarks run [--with codex otel nginx ...] [--scenarios request slow ...] [--rounds 3] [--seconds 3]
    python -m benchmarks load [--streams 500] [--seconds 120]
    python -m benchmarks large-events [--readers 12] [--megabytes 50]
    python -m benchmarks soak [--minutes 30]
    python -m benchmarks scale [--items 100000]
    python -m benchmarks codex-chain [--turns 120]
    python -m benchmarks instructions [--with codex] [--before PYTHON]
    python -m benchmarks observe [--rounds 20]
    python -m benchmarks table RESULT.json [--markdown]

A gateway gets one core and the load another, where there are two. Rounds are interleaved: every scenario is run for one
gateway after the other, so that other work of the machine affects all of them alike.
"""

import argparse
import contextlib
import functools
import itertools
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import instructions, large_events, observing, overload, peers, scale, scenarios, soak, table, targets
from benchmarks.processes import cores, read_busy_seconds
from benchmarks.scenarios import Bench
from benchmarks.targets import ROOT, Target
from benchmarks.wire import Order

WARM_UP = ("request", "burst")


def main() -> None:
    options = _parser().parse_args()
    options.act(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)

    run = commands.add_parser("run", help="measure, and print a table")
    run.add_argument(
        "--with", dest="others", nargs="*", default=[], choices=("codex", *targets.OBSERVERS, *peers.PEERS)
    )
    run.add_argument(
        "--before",
        metavar="PYTHON",
        type=os.path.abspath,
        help="the interpreter of another Floway, to compare a change",
    )
    names = [name for name in scenarios.SCENARIOS if name not in scenarios.LARGE]
    names += [scenarios.HOLD, *scenarios.LARGE]
    run.add_argument("--scenarios", nargs="*", default=names, choices=names)
    run.add_argument("--rounds", type=int, default=3, help="long scenarios are run in the first one only")
    run.add_argument("--seconds", type=float, default=2.0, help="of each short run")
    run.add_argument("--hold", type=int, nargs="*", default=[500, 1000], help="streams that are held at the same time")
    run.add_argument("--hold-seconds", type=float, default=12.0, help="for which many streams are held")
    run.add_argument("--ramp", type=float, default=3.0, help="seconds over which they are opened")
    run.add_argument("--turns", type=int, default=1000, help="of the long conversation")
    run.add_argument("--settling", type=float, default=0.3, help="seconds after a run that still count as CPU time")
    run.add_argument("--output", type=Path, default=ROOT / ".bench" / "result.json")
    run.add_argument("--installed", type=Path, default=ROOT / ".bench", help="the folder with the other gateways")
    run.set_defaults(act=_run)

    load = commands.add_parser("load", help="hold many streams for long, then ask for too many")
    load.add_argument("--streams", type=int, default=500)
    load.add_argument("--seconds", type=float, default=120.0)
    load.add_argument("--ramp", type=float, default=5.0)
    load.add_argument("--threads", type=int, default=1024, help="streams per worker in the burst above the limit")
    load.add_argument("--burst-seconds", type=float, default=20.0, help="for which the streams of that burst go on")
    load.set_defaults(act=_load)

    large = commands.add_parser("large-events", help="delays of other streams while clients read large events slowly")
    large.add_argument("--readers", type=int, default=12)
    large.add_argument("--megabytes", type=int, default=50)
    large.set_defaults(act=_large_events)

    soaking = commands.add_parser("soak", help="a mixed load for many minutes, after which nothing may have grown")
    soaking.add_argument("--minutes", type=float, default=30.0)
    soaking.add_argument("--period", type=float, default=55.0, help="seconds of load between two lines of the table")
    soaking.set_defaults(act=_soak)
    scaling = commands.add_parser("scale", help="four workers on PostgreSQL, with few stored items and with many")
    scaling.add_argument("--items", type=int, default=100_000, help="stored by the time of the measurement")
    scaling.add_argument("--conversations", type=int, default=100, help="that Floway writes; the others are copies")
    scaling.add_argument("--rounds", type=int, default=3)
    scaling.add_argument("--seconds", type=float, default=6.0, help="of each run")
    scaling.set_defaults(act=_scale)
    chain = commands.add_parser("codex-chain", help="a long conversation over POSTs and over a WebSocket")
    chain.add_argument("--turns", type=int, default=120)
    chain.set_defaults(act=_chain)
    counting = commands.add_parser("instructions", help="count machine instructions per request; needs valgrind")
    counting.add_argument("--with", dest="others", nargs="*", default=[], choices=("codex",))
    counting.add_argument("--before", metavar="PYTHON", type=os.path.abspath, help="as for run")
    counting.add_argument("--kinds", nargs="*", default=list(instructions.KINDS), choices=instructions.KINDS)
    counting.add_argument("--requests", type=int, default=40, help="of each kind")
    counting.set_defaults(act=_instructions)
    observe = commands.add_parser("observe", help="measure what traces add to a request")
    observe.add_argument("--rounds", type=int, default=20)
    observe.set_defaults(act=_observe)

    table_parser = commands.add_parser("table", help="print the table of a result again")
    table_parser.add_argument("result", type=Path)
    table_parser.add_argument("--markdown", action="store_true")
    table_parser.set_defaults(act=_table)
    return parser


# ------------------------------------------------------------------------------------------------------------- commands
def _run(options: argparse.Namespace) -> None:
    load_cpus, gateway_cpus = cores()
    result: table.Result = {"about": describe_machine(load_cpus, gateway_cpus), "targets": [], "runs": []}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    began, worked = time.monotonic(), read_busy_seconds(gateway_cpus)
    with contextlib.ExitStack() as stack:
        upstream_url = stack.enter_context(targets.upstream(load_cpus))
        measured = [targets.direct(upstream_url)]
        for start in _gateway_starters(options, upstream_url, gateway_cpus):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="floway-bench-")))
            try:
                measured.append(start(folder))
            except FileNotFoundError as error:
                _report(f"left out: {error}")
                continue
            stack.callback(measured[-1].tree.stop)
            _report(f"{measured[-1].name} {measured[-1].version} answers")
        result["targets"] = [_describe_target(target) for target in measured]
        for run in _measure(options, measured, load_cpus):
            result["runs"].append(run)
            own = sum(target.tree.cpu() for target in measured if target.tree)
            others = (read_busy_seconds(gateway_cpus) - worked - own) / (time.monotonic() - began)
            result["about"]["gateways' core"] = f"others used {max(0.0, others):.0%} of it"
            options.output.write_text(json.dumps(result, indent=1))
    print(*table.lines(result), sep="\n")
    _report(f"kept in {options.output}")
    if any(run["failed"] for run in result["runs"] if run["target"].startswith("Floway")):
        sys.exit("Floway did not relay everything: see above.")


def _load(options: argparse.Namespace) -> None:
    load_cpus, gateway_cpus = overload.cores()
    _print_machine(load_cpus, gateway_cpus)
    with targets.upstream(load_cpus) as upstream_url:
        held = overload.hold(upstream_url, load_cpus, gateway_cpus, options.streams, options.seconds, options.ramp)
        print(*overload.format_held(held, options.streams, options.seconds), "", sep="\n", flush=True)
        order = Order(10, int(options.burst_seconds * 1e5))
        refused = overload.exceed_limit(upstream_url, load_cpus, gateway_cpus, options.threads, order)
        print(*overload.format_overload(refused), sep="\n")
    if not (held.passed and refused.passed):
        sys.exit("Floway did not stand the load.")


def _large_events(options: argparse.Namespace) -> None:
    load_cpus, gateway_cpus = cores()
    with targets.upstream(load_cpus) as upstream_url:
        lines = large_events.run((load_cpus, gateway_cpus), upstream_url, options.readers, options.megabytes)
        if not _print_lines(lines):
            sys.exit(1)


def _soak(options: argparse.Namespace) -> None:
    load_cpus, gateway_cpus = overload.cores()
    _print_machine(load_cpus, gateway_cpus)
    print(soak.format_heading(), flush=True)
    with targets.upstream(load_cpus) as upstream_url:
        for result in soak.run(upstream_url, load_cpus, gateway_cpus, options.minutes, options.period):
            print(soak.format_sample(result.samples[-1]), flush=True)
    print(*soak.format_result(result), sep="\n")
    if not result.passed:
        sys.exit("Floway did not stand the soak.")


def _scale(options: argparse.Namespace) -> None:
    load_cpus, gateway_cpus = overload.cores()
    cpus = load_cpus | gateway_cpus
    _print_machine(cpus, cpus)
    sizes = {name: getattr(options, name) for name in ("items", "conversations", "rounds", "seconds")}
    with targets.upstream(cpus) as upstream_url:
        if not _print_lines(scale.run(upstream_url, cpus, **sizes, report=_report)):
            sys.exit("Floway did not answer everything: see above.")


def _chain(options: argparse.Namespace) -> None:
    from benchmarks import codex_chain  # the plugin need not be installed for the others

    chains = [codex_chain.measure(transport, options.turns) for transport in codex_chain.TRANSPORTS]
    print(*codex_chain.format_chains(chains), sep="\n")


def _instructions(options: argparse.Namespace) -> None:
    load_cpus, gateway_cpus = cores()
    print("Millions of instructions per request", flush=True)
    with targets.upstream(load_cpus) as upstream_url:
        for (name, python, start), kind in itertools.product(_floways(options), options.kinds):
            start = functools.partial(start, upstream_url, gateway_cpus)
            counted = instructions.count(start, python, instructions.KINDS[kind], options.requests)
            print(f"{name:26} {kind:16} {counted / 1e6:8.3f}", flush=True)


def _observe(options: argparse.Namespace) -> None:
    load_cpus, gateway_cpus = cores()
    with targets.upstream(load_cpus) as upstream_url:
        os.sched_setaffinity(0, gateway_cpus)
        print(*observing.lines(upstream_url.removesuffix("/v1"), options.rounds), sep="\n")


def _table(options: argparse.Namespace) -> None:
    print(*table.lines(json.loads(options.result.read_text()), options.markdown), sep="\n")


# ------------------------------------------------------------------------------------------------------------ measuring
def _floways(options: argparse.Namespace) -> Iterator[tuple[str, str, Callable[..., Target]]]:
    """Yield the name, the interpreter and the starter of each Floway: with each plugin, now and before a change."""
    starters = {"Floway": targets.floway} | (
        {"Floway with Codex": targets.floway_codex} if "codex" in options.others else {}
    )
    versions = {"": sys.executable} | ({" before": options.before} if options.before else {})
    for (name, start), (suffix, python) in itertools.product(starters.items(), versions.items()):
        yield f"{name}{suffix}", python, start


def _gateway_starters(
    options: argparse.Namespace, upstream_url: str, cpus: set[int]
) -> Iterator[Callable[[Path], Target]]:
    for name, python, start in _floways(options):
        yield functools.partial(start, upstream_url, cpus, name=name, python=python)
    for observer in targets.OBSERVERS.intersection(options.others):
        yield functools.partial(targets.floway_observed, upstream_url, cpus, observer=observer)
    for name, start in peers.PEERS.items():
        if name in options.others:
            yield functools.partial(start, upstream_url, cpus, installed=options.installed)


def _measure(options: argparse.Namespace, measured: list[Target], load_cpus: set[int]) -> Iterator[dict]:
    benches = [
        Bench(
            target,
            load_cpus,
            options.seconds,
            options.hold_seconds,
            options.ramp,
            options.turns,
            options.settling,
        )
        for target in measured
    ]
    for bench in benches:
        for name in WARM_UP:
            scenarios.SCENARIOS[name](replace(bench, seconds=min(1.0, options.seconds)))
    for round in range(options.rounds):
        for kind in options.scenarios:
            if round and kind in scenarios.ONCE:
                continue
            for name, scenario in _variants(kind, options.hold):
                for bench in benches:
                    if _applies(kind, bench.target):
                        metrics = scenario(bench)
                        _report(f"round {round + 1}  {name:11} {bench.target.name:18} {_short(metrics)}")
                        yield {"round": round, "scenario": name, "target": bench.target.name, **metrics}


def _variants(kind: str, holds: list[int]) -> list[tuple[str, Callable[[Bench], scenarios.Metrics]]]:
    if kind != scenarios.HOLD:
        return [(kind, scenarios.SCENARIOS[kind])]
    return [(f"{kind}{streams}", functools.partial(scenarios.held, streams=streams)) for streams in holds]


def _applies(kind: str, target: Target) -> bool:
    if kind in scenarios.TRANSLATING:
        return bool(getattr(target, scenarios.TRANSLATING[kind]))
    if kind in scenarios.NEEDING_CONVERSATIONS and not target.stores_conversations:
        return False
    if kind in scenarios.MESSAGES and not target.takes_messages:
        return False
    return bool(target.tree or kind in scenarios.DIRECT)


def describe_machine(load_cpus: set[int], gateway_cpus: set[int]) -> dict[str, str]:
    """Return what one has to know about the machine to judge the figures."""
    model = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{len(model)} × {model[0] if model else platform.machine()}, Linux {platform.release()}",
        "cores": f"load on {_join(load_cpus)}, gateway on {_join(gateway_cpus)}",
        "Python": platform.python_version(),
        "load average before": f"{os.getloadavg()[0]:.2f}",
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
    }


def _print_machine(load_cpus: set[int], gateway_cpus: set[int]) -> None:
    about = describe_machine(load_cpus, gateway_cpus)
    print(*(f"{name}: {value}" for name, value in about.items()), "", sep="\n", flush=True)


def _print_lines(lines: Iterable[str]) -> bool:
    """Print lines as they come. Return whether none reports a problem, with a ``!`` in front."""
    is_fine = True
    for line in lines:
        print(line, flush=True)
        is_fine = is_fine and not line.startswith("!")
    return is_fine


def _join(cpus: set[int]) -> str:
    return ", ".join(map(str, sorted(cpus)))


def _describe_target(target: Target) -> dict:
    return {"name": target.name, "version": target.version, "started": target.started, "idle": asdict(target.idle)}


def _short(metrics: scenarios.Metrics) -> str:
    figures = [f"{name}={value:.4g}" for name, value in metrics.items() if isinstance(value, (int, float))]
    return " ".join([*figures, *metrics["problems"]])


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines()


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
