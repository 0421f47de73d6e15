"""A long conversation with the simulated Codex backend, over POSTs and over a WebSocket: bytes and CPU of a turn."""

import contextlib
import itertools
import json
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from floway_codex.simulator import Reply, Simulator, item, reasoning, reply, text

from floway_core.testing import ApiClient, RunningGateway

MODEL = "gpt-5.5"
OUTPUT_BYTES, ANSWER_BYTES, INSTRUCTION_BYTES = 11_000, 600, 4_000
"""Of the output of a tool, the answer to it, and the instructions. 120 turns make 1.4 MB."""
LAST = 20
"""Turns at the end of which the figures are."""
TRANSPORTS = {
    "POST, not compressed": {"codex_transport": "http", "codex_request_encoding": "identity"},
    "POST, zstd, as the CLI": {"codex_transport": "http", "codex_request_encoding": "zstd"},
    "WebSocket, as the CLI": {"codex_transport": "auto"},
}
TOOL = {
    "type": "function",
    "name": "read",
    "description": "Reads a part of a file. " * 8,
    "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
}


@dataclass(frozen=True)
class Chain:
    """A measured conversation."""

    transport: str
    history_bytes: int
    sent: Sequence[int]
    """Bytes to the backend, by turn."""
    cpu_ms: Sequence[float]
    """CPU time of the worker, by turn."""


def measure(transport: str, turns: int) -> Chain:
    """Have a conversation of so many turns, each of which answers a call and gets another one."""
    with tempfile.TemporaryDirectory() as folder, Simulator() as backend, contextlib.ExitStack() as stack:
        consistency = backend.backend.consistency
        # these checks read the whole history in each turn
        stack.enter_context(mock.patch.object(consistency, "_check_dispatch", return_value=()))
        stack.enter_context(mock.patch.object(consistency, "_earlier_turns", return_value=frozenset()))
        urls = {"codex_base_url": backend.base_url, "codex_auth_url": backend.auth_url}
        with RunningGateway({**urls, **TRANSPORTS[transport]}, installed=["codex"]) as gateway:
            file = Path(folder) / "auth.json"
            file.write_text(json.dumps(backend.new_account()))
            gateway.run("codex", "import", str(file))
            (worker,) = gateway.workers
            chain = list(_converse(backend, ApiClient(gateway.url, gateway.key), worker, turns))
    totals, cpu, history = zip(*chain, strict=True)
    return Chain(transport, history[-1], _steps([0, *totals]), [1000 * one for one in _steps(cpu)])


def _converse(backend: Simulator, client: ApiClient, worker: int, turns: int) -> Iterator[tuple[int, float, int]]:
    """Yield after each turn the bytes so far, the CPU seconds so far and the size of the history."""
    words = random.Random(1)
    vocabulary = ["".join(words.choices("abcdefghijklmnopqrstuvwxyz", k=words.randint(2, 9))) for _ in range(4000)]

    def prose(size: int) -> str:
        return " ".join(words.choices(vocabulary, k=size // 6))[:size]

    shared = {"model": MODEL, "instructions": prose(INSTRUCTION_BYTES), "tools": [TOOL], "stream": True}
    previous, history = None, 0
    for turn in range(turns):
        backend.script(_answer(turn, prose(ANSWER_BYTES)))
        output = {"type": "function_call_output", "call_id": f"call_{turn - 1}", "output": prose(OUTPUT_BYTES)}
        body = {**shared, "input": [output if turn else {"role": "user", "content": prose(300)}]}
        body |= {"previous_response_id": previous} if previous else {}
        answer = client.send("POST", "/v1/responses", json.dumps(body).encode(), {"content-type": "application/json"})
        response = answer.events()[-1]["response"]
        previous, history = response["id"], history + len(json.dumps(body["input"] + response["output"]))
        posted = sum(len(request.raw) for request in backend.dispatches)
        yield posted + backend.websockets.bytes_received, _cpu_seconds(worker), history


def _answer(turn: int, said: str) -> Reply:
    call = {"type": "function_call", "id": f"fc_{turn:050}", "call_id": f"call_{turn}", "name": "read"}
    call |= {"status": "completed", "arguments": '{"path":"/x"}'}
    return reply(reasoning("thinking"), text(said, chunks=20), item(call))


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, which the kernel counts in nanoseconds here; its usual ticks are too long."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((tasks / task / "schedstat").read_text().split()[0]) for task in os.listdir(tasks)) / 1e9


def _steps(totals: Sequence[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(totals)]


def format_chains(chains: Sequence[Chain]) -> Iterator[str]:
    """The lines of a table."""
    yield f"| {len(chains[0].sent)} turns, the last {LAST} of them | bytes to the backend | CPU ms |"
    yield "| --- | ---: | ---: |"
    for chain in chains:
        sent, cpu = (sum(values[-LAST:]) / len(values[-LAST:]) for values in (chain.sent, chain.cpu_ms))
        yield f"| {chain.transport} | {sent:,.0f} | {cpu:.1f} |"
