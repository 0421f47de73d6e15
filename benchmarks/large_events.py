"""What other streams notice of large events, while a gateway receives some and while clients read them slowly."""

import contextlib
import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import targets
from benchmarks.scenarios import EVENTS_PER_SECOND, Bench, Metrics, body_of, drive
from benchmarks.targets import Target
from benchmarks.wire import Order
from floway_core.testing.events import event, message_stream

MODEL = "large"
"""The model whose answer is one large delta."""
STREAMS = 50
"""Other streams, with ten events per second each."""
SLICE_BYTES = 256 * 1024
PAUSE_SECONDS = 0.1
"""Between two slices, so that a client reads 2.5 MB per second."""
RECEIVING_SECONDS, READING_SECONDS = 6, 12
READ_BYTES = 64 * 1024
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def run(cpus: tuple[set[int], set[int]], upstream_url: str, readers: int, megabytes: int) -> Iterator[str]:
    """Measure, and yield the lines of the report.

    :param cpus: the cores of the load and of the gateway.
    :param upstream_url: of the fake upstream, for the other streams.
    """
    load_cpus, gateway_cpus = cpus
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="floway-bench-")))
        url = stack.enter_context(_large_upstream(megabytes))
        target = targets.floway(upstream_url, gateway_cpus, folder, {"workers": "1"})
        model = ("--base-url", url, "--no-key", "--no-test", "--model", MODEL)
        targets.command(folder, "upstreams", "add", "openai", "bench-large", *model)
        stack.callback(target.tree.stop)
        bench = Bench(target, load_cpus)
        yield f"{STREAMS} streams, {EVENTS_PER_SECOND} events per second each: delay of an event, ms"
        yield _line("nothing else", _hold(bench, RECEIVING_SECONDS))
        slow = [SlowReader(target) for _ in range(readers)]
        starting = threading.Timer(1.0, lambda: [reader.start() for reader in slow])
        starting.start()
        yield _line(f"{readers} events of {megabytes} MB arrive", _hold(bench, RECEIVING_SECONDS))
        starting.join()
        for reader in slow:
            reader.has_begun.wait()
        yield _line("their clients read them", _hold(bench, READING_SECONDS))
        if not all(reader.is_alive() for reader in slow):
            yield "! the clients had read everything before the end of the measurement"
        for reader in slow:
            reader.stop()


def _hold(bench: Bench, seconds: int) -> Metrics:
    order = Order(seconds * EVENTS_PER_SECOND, 1_000_000 // EVENTS_PER_SECOND)
    plan = {"connections": STREAMS, "requests": STREAMS, "ramp": 0.5}
    result = drive(bench, body_of(order, store=False), order, **plan).result
    if result["failed"] or result["unfinished"]:
        raise RuntimeError(f"streams were not complete: {result['problems']}")
    return result["delay_ms"]


def _line(label: str, delays: Metrics) -> str:
    figures = ", ".join(f"{name} {delays[name]:.1f}" for name in ("p50", "p99", "max"))
    return f"  {label:30} {figures}"


class SlowReader(threading.Thread):
    """A client that reads a large event slowly."""

    def __init__(self, target: Target) -> None:
        super().__init__(daemon=True)
        self.has_begun = threading.Event()
        """Set as soon as the large event arrives, or the connection has ended."""
        self._target = target
        self._stopped = threading.Event()

    def run(self) -> None:
        """Read until the end, or until ``stop``."""
        parts, received = urlsplit(self._target.url), 0
        body = json.dumps({"model": MODEL, "input": "x", "stream": True, "store": False}).encode()
        headers = {"host": parts.netloc, "content-type": "application/json", "content-length": str(len(body))}
        head = [f"POST {parts.path} HTTP/1.1", *map(": ".join, {**headers, **self._target.headers}.items())]
        with contextlib.suppress(OSError), socket.create_connection((parts.hostname, parts.port)) as connection:
            connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
            while (data := connection.recv(SLICE_BYTES)) and not data.endswith(b"\r\n0\r\n\r\n"):
                received += len(data)
                if received >= SLICE_BYTES:
                    self.has_begun.set()
                    if self._stopped.wait(PAUSE_SECONDS):
                        break
        self.has_begun.set()

    def stop(self) -> None:
        """Hang up, and wait for the end of the thread."""
        self._stopped.set()
        self.join()


@contextlib.contextmanager
def _large_upstream(megabytes: int) -> Iterator[str]:
    """Run an upstream that answers each request with a large image, as a context manager.

    :returns: its base URL.
    """
    first, *_, last = message_stream()
    image = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "x" * megabytes * 10**6}
    answer = HEAD + first + event("response.output_item.done", sequence_number=1, output_index=0, item=image) + last
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        threading.Thread(target=_accept, args=(listener, answer), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def _accept(listener: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):  # the listener is closed at the end
        while True:
            threading.Thread(target=_send, args=(listener.accept()[0], answer), daemon=True).start()


def _send(connection: socket.socket, answer: bytes) -> None:
    request = b""
    with contextlib.suppress(OSError), connection:
        while not request.endswith(b"}"):
            request += connection.recv(READ_BYTES)
        connection.sendall(answer)
