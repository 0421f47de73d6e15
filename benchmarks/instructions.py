"""Machine instructions per request in a worker, counted by callgrind, which other work on the machine does not change.

They say what a change of the code costs or saves, within about one per cent. They are no times: caches, the kernel and
the C parser of gunicorn are left out, because callgrind does not run that parser's SSE instructions.
"""

import http.client
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.scenarios import ANSWER_DELTAS, body_of, history_of
from benchmarks.targets import Target
from benchmarks.wire import Order

WARM_UP = 30
"""Requests before those that are counted."""
DUMP_SECONDS = 30.0
"""How long callgrind may take to write what it has counted."""

_PYTHON = """#!/bin/sh
# The interpreter; a server runs in callgrind.
case "$*" in
*" serve "*) PYTHONPATH="{hidden}:$PYTHONPATH" exec valgrind --quiet --tool=callgrind --instr-atstart=no \\
    --trace-children=yes --callgrind-out-file={folder}/callgrind.%p {python} "$@" ;;
*) exec {python} "$@" ;;
esac
"""


class Kind(NamedTuple):
    """A kind of requests."""

    store: bool = False
    stream: bool = False
    history: int = 0
    """KiB of history in the request."""
    turns: int = 1
    """Turns of a conversation; each names the response before."""


KINDS = {
    "request": Kind(),
    "stored": Kind(store=True),
    "history": Kind(history=64),
    "history, stored": Kind(store=True, history=64),
    "chained": Kind(store=True, turns=20),
    "stream": Kind(stream=True),
    "stream, stored": Kind(stream=True, store=True),
}
STREAM = Order(4, 10_000)
"""A stream has few deltas, each of which arrives alone."""


def count(start: Callable[..., Target], python: str, kind: Kind, requests: int) -> float:
    """Return the instructions per request of a gateway with one worker.

    :param start: starts it; takes a folder, ``settings`` and ``python``.
    :param python: the interpreter in whose environment Floway is installed.
    :param requests: how many are counted.
    :raises FileNotFoundError: valgrind is not installed.
    """
    if not shutil.which("valgrind"):
        raise FileNotFoundError("valgrind is not installed")
    with tempfile.TemporaryDirectory(prefix="floway-bench-") as created:
        folder = Path(created)
        target = start(folder, settings={"workers": "1"}, python=_wrap(folder, python))
        try:
            return _count(target, folder, kind, requests) / requests
        finally:
            target.tree.stop()


def _wrap(folder: Path, python: str) -> str:
    """Write a stand-in for the interpreter, which runs servers in callgrind; return its path."""
    hidden = folder / "hidden"
    hidden.mkdir()
    (hidden / "gunicorn_h1c.py").write_text("raise ImportError('its instructions are unknown to callgrind')\n")
    wrapper = folder / "python"
    wrapper.write_text(_PYTHON.format(python=python, folder=folder, hidden=hidden))
    wrapper.chmod(0o755)
    return str(wrapper)


def _count(target: Target, folder: Path, kind: Kind, requests: int) -> int:
    """Return the instructions of ``requests`` requests."""
    _send(target, kind, WARM_UP)
    worker = target.tree.pids()[-1]  # of the server and its only worker
    _control(worker, "--instr=on")
    _send(target, kind, requests)
    _control(worker, "--instr=off")
    _control(worker, "--dump")
    return _read_total(folder, worker)


def _control(pid: int, command: str) -> None:
    subprocess.run(["callgrind_control", command, str(pid)], check=True, capture_output=True)


def _read_total(folder: Path, pid: int) -> int:
    """Return the sum of a dump, as soon as it is complete.

    :raises TimeoutError: it is not written.
    """
    deadline = time.monotonic() + DUMP_SECONDS
    while time.monotonic() < deadline:
        for dump in folder.glob(f"callgrind.{pid}.*"):
            if found := re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE):
                return int(found[1])
        time.sleep(0.05)
    raise TimeoutError(f"callgrind has written nothing for process {pid}")


def _send(target: Target, kind: Kind, requests: int) -> None:
    """Send requests, one after the other."""
    parts = urlsplit(target.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port)
    order = STREAM if kind.stream else Order(ANSWER_DELTAS)
    body = body_of(order, stream=kind.stream, store=kind.store, history=history_of(kind.history))
    previous = None
    for number in range(requests):
        if number % kind.turns == 0:
            previous = None
        content = json.dumps({**body, "previous_response_id": previous})
        connection.request("POST", parts.path, content, {"content-type": "application/json", **target.headers})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{target.name} answers with status {answer.status}: {content[:500]!r}")
        previous = None if kind.stream else json.loads(content)["id"]
    connection.close()
