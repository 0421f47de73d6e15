"""The scenarios: the requests of each, and the figures that it reports."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from benchmarks import chat_wire, gemini, messages
from benchmarks.load import Plan
from benchmarks.processes import start
from benchmarks.targets import ROOT, Target
from benchmarks.wire import MODEL, Order

Metrics = dict[str, Any]
"""The result of a scenario: figures by name, and ``complete``, ``failed`` and ``problems`` for its validity."""

ANSWER_DELTAS = 40
"""Deltas of an ordinary response."""
MAX_LAG_SECONDS = 120.0
"""The delay with which many streams may end."""
MIN_ANSWERS = 100
"""The least number of responses over which the cost of a request is averaged."""
EVENTS_PER_SECOND = 10
"""The pace of a slow stream."""


@dataclass(frozen=True)
class Bench:
    """One gateway, and how long to measure it."""

    target: Target
    cpus: set[int]
    """The cores of the load generator."""
    seconds: float = 3.0
    hold_seconds: float = 12.0
    ramp: float = 3.0
    """Seconds over which many streams are opened."""
    turns: int = 1000
    """Length of the long conversation."""
    settling: float = 0.3
    """Seconds after the last response in which the gateway may still work on it."""


@dataclass(frozen=True)
class Run:
    """One run of the load generator, with the resources that the gateway used."""

    result: dict[str, Any]
    cpu: float
    """Seconds."""
    memory: list[tuple[float, int]]
    """(seconds since the start, PSS in KiB)."""

    @property
    def per_answer(self) -> float:
        """CPU seconds per response."""
        return self.cpu / max(1, self.result["complete"])

    @property
    def events(self) -> float:
        """Events per response."""
        return self.result["events"] / max(1, self.result["complete"])


def drive(bench: Bench, body: dict[str, Any], order: Order, watch: float | None = None, **plan: Any) -> Run:
    """Run the load generator once.

    :param watch: seconds between two measurements of the gateway's memory; None: none.
    :param plan: further fields of the plan; they take precedence.
    """
    target = bench.target
    usual = {"url": target.url, "body": body, "deltas": order.deltas, "headers": target.headers, "exact": target.exact}
    request_plan = Plan(**{**usual, **plan})
    load = start(
        [sys.executable, "-m", "benchmarks.load"],
        bench.cpus,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    before, began, memory = _cpu(target), time.monotonic(), []
    stdin: str | None = json.dumps(asdict(request_plan))
    try:
        while True:
            try:
                stdout, _ = load.communicate(stdin, timeout=watch)
                break
            except subprocess.TimeoutExpired:
                stdin = None
                if target.tree:
                    memory.append((time.monotonic() - began, target.tree.memory().total))
    finally:
        if load.poll() is None:
            load.kill()
            load.wait()
    time.sleep(bench.settling)
    return Run(json.loads(stdout), _cpu(target) - before, memory)


def _cpu(target: Target) -> float:
    return target.tree.cpu() if target.tree else 0.0


def _metrics(*runs: Run, **figures: float | None) -> Metrics:
    results = [run.result for run in runs]
    counted = {name: sum(result[name] for result in results) for name in ("complete", "failed", "unfinished")}
    problems = [problem for result in results for problem in result["problems"]]
    return {**figures, **counted, "problems": problems[:3]}


# ------------------------------------------------------------------------------------------------------------- requests
def body_of(order: Order, *, stream: bool = True, store: bool = True, history: list | None = None) -> dict[str, Any]:
    """Return a request like that of an agent."""
    question = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": str(order)}]}
    parameters = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
    tool = {
        "type": "function",
        "name": "shell",
        "description": "Runs a command.",
        "parameters": parameters,
        "strict": False,
    }
    return {
        "model": MODEL,
        "instructions": "You are a coding agent.",
        "input": [*(history or []), question],
        "tools": [tool],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": store,
        "stream": stream,
    }


def history_of(kib: int) -> list[dict[str, Any]]:
    """Return items of about one KiB each: questions, calls, their results and answers."""
    filler, items = "Read the file, explain what it does and then change it. " * 16, []
    for number in range(0, kib, 4):
        call = {"call_id": f"call_{number}", "name": "shell", "arguments": json.dumps({"cmd": filler})}
        items += [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"{number} {filler}"}]},
            {"type": "function_call", **call},
            {"type": "function_call_output", "call_id": f"call_{number}", "output": filler},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": f"{number} {filler}"}],
            },
        ]
    return items


def _once(target: Target, body: dict[str, Any]) -> dict[str, Any]:
    parts = urlsplit(target.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    headers = {"content-type": "application/json", **target.headers}
    connection.request("POST", parts.path, json.dumps(body), headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


# ------------------------------------------------------------------------------------------------------------ scenarios
def whole(bench: Bench, store: bool, history: list | None = None) -> Metrics:
    """Requests that do not stream, on 16 connections."""
    order = Order(ANSWER_DELTAS)
    body = body_of(order, stream=False, store=store, history=history)
    run = drive(bench, body, order, connections=16, requests=MIN_ANSWERS, seconds=bench.seconds)
    rate = run.result["complete"] / run.result["seconds"]
    return _metrics(run, cpu_ms=run.per_answer * 1e3, rate=rate)


def resent(bench: Bench) -> Metrics:
    """A client that resends its whole history with one new question."""
    order = Order(ANSWER_DELTAS)
    before = body_of(order, stream=False, history=history_of(64))
    answer = _once(bench.target, before)
    return whole(bench, store=True, history=[*before["input"], *answer.get("output", [])])


def alone(bench: Bench) -> Metrics:
    """Requests that do not stream, one at a time."""
    order = Order(ANSWER_DELTAS)
    run = drive(bench, body_of(order, stream=False, store=False), order, requests=MIN_ANSWERS, seconds=bench.seconds)
    total = run.result["total_ms"]
    return _metrics(run, p50=total.get("p50"), p99=total.get("p99"))


def first(bench: Bench) -> Metrics:
    """One stream at a time, an event every 2 ms."""
    order = Order(10, 2000)
    result = (run := drive(bench, body_of(order), order, seconds=2 * bench.seconds)).result
    return _metrics(
        run,
        first_p50=result["first_ms"].get("p50"),
        first_p99=result["first_ms"].get("p99"),
        delay_p50=result["delay_ms"].get("p50"),
        delay_p99=result["delay_ms"].get("p99"),
    )


def slow(bench: Bench) -> Metrics:
    """20 streams with an event every 10 ms: the cost that grows with their length is that of events."""
    short, long = Order(4, 10_000), Order(int(50 * bench.seconds) + 50, 10_000)
    few = drive(bench, body_of(short), short, connections=20, requests=MIN_ANSWERS, seconds=bench.seconds)
    many = drive(bench, body_of(long), long, connections=20, requests=40)
    event = (many.per_answer - few.per_answer) / max(1, many.events - few.events)
    return _metrics(few, many, event_us=event * 1e6, stream_ms=(few.per_answer - event * few.events) * 1e3)


def burst(bench: Bench) -> Metrics:
    """4 streams whose upstream writes as fast as it is read."""
    order = Order(1000)
    run = drive(bench, body_of(order), order, connections=4, seconds=bench.seconds)
    rate = run.result["events"] / run.result["seconds"]
    return _metrics(run, event_us=run.cpu / max(1, run.result["events"]) * 1e6, rate=rate)


def chained(bench: Bench) -> Metrics:
    """Conversations of 20 turns with ``previous_response_id``."""
    order = Order(ANSWER_DELTAS)
    run = drive(bench, body_of(order, stream=False), order, requests=MIN_ANSWERS, seconds=bench.seconds, turns=20)
    total = run.result["total_ms"]
    return _metrics(run, cpu_ms=run.per_answer * 1e3, p50=total.get("p50"), p99=total.get("p99"))


def long_chain(bench: Bench) -> Metrics:
    """The last fifth of one long conversation."""
    order, last = Order(ANSWER_DELTAS), max(1, bench.turns // 5)
    body = body_of(order, stream=False)
    before = drive(bench, body, order, requests=bench.turns - last, turns=bench.turns)
    run = drive(bench, body, order, requests=last, turns=bench.turns, previous=before.result["last_id"])
    total = run.result["total_ms"]
    return _metrics(before, run, cpu_ms=run.per_answer * 1e3, p50=total.get("p50"), p99=total.get("p99"))


def held(bench: Bench, streams: int) -> Metrics:
    """Many slow streams at the same time."""
    before = bench.target.tree.memory().total if bench.target.tree else 0
    order = Order(int(bench.hold_seconds * EVENTS_PER_SECOND), 1_000_000 // EVENTS_PER_SECOND)
    run = drive(
        bench,
        body_of(order),
        order,
        watch=max(1.0, bench.hold_seconds / 60),
        connections=streams,
        requests=streams,
        ramp=bench.ramp,
        time_limit=bench.hold_seconds + MAX_LAG_SECONDS,
    )
    result = run.result
    return _metrics(
        run,
        cpu_percent=100 * run.cpu / result["seconds"],
        event_us=run.cpu / max(1, result["events"]) * 1e6,
        rate=result["events"] / result["seconds"],
        deltas=result["deltas"],
        first_p99=result["first_ms"].get("p99"),
        delay_p50=result["delay_ms"].get("p50"),
        delay_p99=result["delay_ms"].get("p99"),
        delay_max=result["delay_ms"].get("max"),
        **_held_memory(bench, run.memory, before, streams),
    )


def _held_memory(bench: Bench, memory: list[tuple[float, int]], before: int, streams: int) -> dict[str, Any]:
    """Return the memory per stream, and its growth while all streams run.

    :param before: KiB that the gateway had before the first of them.
    """
    level = [(at, held) for at, held in memory if bench.ramp + 1 <= at <= bench.hold_seconds]
    if not level:
        return {}
    return {
        "stream_kib": (max(held for _, held in level) - before) / streams,
        "growth_kib": level[-1][1] - level[len(level) // 3][1],
        "memory": [(round(at, 1), held) for at, held in level],
    }


def chat_body(order: Order, *, stream: bool) -> dict[str, Any]:
    """The same request as ``body_of``, in the form of Chat Completions, not stored."""
    parameters = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
    function = {"name": "shell", "description": "Runs a command.", "parameters": parameters}
    return {
        "model": MODEL,
        "messages": [{"role": "system", "content": "You are a coding agent."}, {"role": "user", "content": str(order)}],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning_effort": "medium",
        "store": False,
        "stream": stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
    }


def translated(bench: Bench, body: Callable[..., dict[str, Any]], whole_url: str = "", **plan: Any) -> Metrics:
    """Requests, slow streams and bursts where client and upstream speak different formats.

    :param body: returns the body for an order.
    :param whole_url: where to send requests that do not stream; empty for the same URL.
    """
    whole_plan = {**plan, "url": whole_url} if whole_url else plan
    whole, short, long = Order(ANSWER_DELTAS), Order(4, 10_000), Order(int(50 * bench.seconds) + 50, 10_000)
    burst = Order(1000)
    requests = drive(
        bench,
        body(whole, stream=False),
        whole,
        connections=16,
        requests=MIN_ANSWERS,
        seconds=bench.seconds,
        **whole_plan,
    )
    few = drive(
        bench, body(short, stream=True), short, connections=20, requests=MIN_ANSWERS, seconds=bench.seconds, **plan
    )
    many = drive(bench, body(long, stream=True), long, connections=20, requests=40, **plan)
    fast = drive(bench, body(burst, stream=True), burst, connections=4, seconds=bench.seconds, **plan)
    event = (many.per_answer - few.per_answer) / max(1, many.events - few.events)
    return _metrics(
        requests,
        few,
        many,
        fast,
        cpu_ms=requests.per_answer * 1e3,
        slow_us=event * 1e6,
        event_us=fast.cpu / max(1, fast.result["events"]) * 1e6,
    )


def chat_door(bench: Bench) -> Metrics:
    """A chat client on an upstream that speaks the Responses API."""
    url = bench.target.url.replace("/responses", chat_wire.PATH)

    def body(order: Order, stream: bool) -> dict[str, Any]:
        return {**chat_body(order, stream=stream), "model": bench.target.door_model}

    return translated(bench, body, url=url, api="chat")


def of_messages(bench: Bench) -> Metrics:
    """A client of the Messages API on an upstream that speaks the Responses API."""
    return translated(bench, messages.body_of, url=urljoin(bench.target.url, messages.PATH), api="messages")


def of_gemini(bench: Bench) -> Metrics:
    """A client of the generateContent API on an upstream that speaks the Responses API."""
    url, stream_url = (urljoin(bench.target.url, path) for path in (gemini.PATH, gemini.STREAM_PATH))
    return translated(bench, gemini.body_of, whole_url=url, url=stream_url, api="gemini")


def chat_upstream(bench: Bench) -> Metrics:
    """A client of the Responses API on an upstream that speaks Chat Completions."""

    def body(order: Order, stream: bool) -> dict[str, Any]:
        return {**body_of(order, stream=stream, store=False), "model": bench.target.chat_model}

    return translated(bench, body, exact=False)


SCENARIOS: dict[str, Callable[[Bench], Metrics]] = {
    "request": lambda bench: whole(bench, store=False),
    "stored": lambda bench: whole(bench, store=True),
    "history": lambda bench: whole(bench, store=False, history=history_of(64)),
    "resent": resent,
    "long-request": lambda bench: whole(bench, store=False, history=history_of(1400)),
    "alone": alone,
    "first": first,
    "slow": slow,
    "burst": burst,
    "messages": of_messages,
    "gemini": of_gemini,
    "chained": chained,
    "long-chain": long_chain,
    "chat-door": chat_door,
    "chat-upstream": chat_upstream,
}
HOLD = "hold"
"""The scenario for any number of streams: ``hold500`` has 500."""
ONCE = ("long-request", "long-chain", HOLD)
"""Long scenarios, which run in the first round only."""
DIRECT = ("request", "alone", "first", "burst", HOLD)
"""Scenarios that also make sense without a gateway."""
LARGE = ("long-request", "long-chain")
"""Scenarios that fill a gateway's memory. They run after those that measure it."""
MESSAGES = ("messages",)
"""Scenarios for gateways that serve the Messages API."""
NEEDING_CONVERSATIONS = ("gemini", "long-chain")
"""Scenarios for Floway: it stores conversations, and serves the generateContent API without set-up."""
TRANSLATING = {"chat-door": "door_model", "chat-upstream": "chat_model"}
"""Scenarios where client and upstream speak different formats, and the attribute of a target that names their model."""
