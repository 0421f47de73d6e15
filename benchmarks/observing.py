"""What observers add to a request: CPU time of telling them its results, and of what floway-otel makes of these.

The results are those of a streamed request with one attempt. They take the way that they take in a worker: core's
report, the queue and the thread of the plugin, its hooks, and the export to a collector. All threads count.
"""

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

from benchmarks import wire
from floway_core.contexts import ApiKey, AttemptContext, ClientRequest, Services, Upstream
from floway_core.engine.routing import Candidate
from floway_core.engine.trace import AttemptTrace
from floway_core.provider import Model
from floway_core.runtime.lifecycle import ScopedHooks
from floway_core.runtime.observers import Observers, ResultQueue
from floway_core.testing.events import USAGE, message_item
from floway_core.web.observers import result_reporter
from floway_core.web.request_log import RequestLogEntry

REQUESTS = 500
"""In one round; fewer than may wait for a plugin."""
FLUSH_SECONDS = 60.0
KIND = "openai"
CANDIDATE = Candidate(Upstream("bench", KIND, "bench", True, 1), Model(wire.MODEL, "bench"))
HEADERS = {"content-type": "application/json", "user-agent": "bench", "accept": "*/*", "host": "127.0.0.1:8788"}
OUTPUT = [message_item("word " * 100)]


class Nobody:
    """An observer that does nothing."""

    def on_attempt_start(self, ctx) -> None:
        pass

    def on_attempt_end(self, ctx, result) -> None:
        pass

    def on_request_end(self, result) -> None:
        pass

    def export(self) -> None:
        pass


def start_otel(collector_url: str):
    """Return the plugin, which exports to a collector."""
    from floway_otel.plugin import Plugin  # only here: other measurements do without the plugin

    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector_url
    plugin = Plugin()
    settings = {setting.name: setting.parse(setting.default) for setting in plugin.register_settings()}
    plugin.on_start(Services(SimpleNamespace(plugin=settings), None, None))
    plugin.export = plugin.telemetry.export_spans
    return plugin


def measure(plugin, rounds: int) -> list[float]:
    """Return the CPU time of a request in microseconds, for each round.

    :param plugin: the observer; its ``export`` waits until everything has been sent.
    """
    results = ResultQueue("bench")
    observers = Observers({KIND: [(results, plugin.on_attempt_end)]}, [(results, plugin.on_request_end)])
    report = result_reporter(observers)
    hooks = ScopedHooks("bench", {}, {"on_attempt_start": (("bench", plugin.on_attempt_start),)})

    def observe(entry: RequestLogEntry) -> None:
        hooks.call("on_attempt_start", entry.trace.attempts[0].context)
        report(entry)

    return [_round(observe, results, plugin.export) for _ in range(rounds)]


def _round(observe: Callable[[RequestLogEntry], None], results: ResultQueue, export: Callable[[], None]) -> float:
    entries = list(_entries())
    gc.collect()
    gc.freeze()  # as in a worker, where little is alive that a request has not made
    began = time.process_time()
    for entry in entries:
        observe(entry)
    results.flush(FLUSH_SECONDS)
    export()
    used = time.process_time() - began
    gc.unfreeze()
    return used / len(entries) * 1e6


def _entries() -> Iterator[RequestLogEntry]:
    """Yield requests that have ended."""
    for number in range(REQUESTS):
        entry = RequestLogEntry("POST", "/v1/responses", "/v1/responses", key="bench", model=wire.MODEL, status=200)
        entry.streamed = True
        attempt = AttemptTrace(CANDIDATE, context=_context(entry.id), status=200)
        attempt.dispatched.append(time.monotonic())
        attempt.committed = time.monotonic()
        entry.trace.attempts.append(attempt)
        usage = {**USAGE, "input_tokens": 1000 + number * 7, "output_tokens": 100 + number * 3}
        response = {"id": f"resp_{entry.id}", "model": wire.MODEL, "output": OUTPUT, "usage": usage}
        entry.trace.events = SimpleNamespace(response=response, terminal="response.completed")
        entry.note_first_byte()
        entry._read_result()
        entry.duration = time.monotonic() - entry.started
        yield entry


def _context(request_id: str) -> AttemptContext:
    body = {"model": wire.MODEL, "input": [], "stream": True}
    request = ClientRequest(request_id, ApiKey("bench", "bench"), HEADERS, body, True, None)
    context = AttemptContext(f"{request_id}.1", request, CANDIDATE.upstream, None, wire.MODEL)
    context.server = "http://127.0.0.1:8000"
    return context


def lines(collector_url: str, rounds: int) -> list[str]:
    """Measure, and return the result."""
    plugin, nobody = start_otel(collector_url), Nobody()
    measure(plugin, 2), measure(nobody, 2)
    found: dict[str, list[float]] = {"an observer that does nothing": [], "floway-otel": []}
    for _ in range(rounds):
        found["an observer that does nothing"] += measure(nobody, 1)
        found["floway-otel"] += measure(plugin, 1)
    return [
        f"{name:32} {min(figures):5.1f} us of CPU per request (median {statistics.median(figures):.1f})"
        for name, figures in found.items()
    ]
