"""SIGHUP: new workers take over under load, and no client notices."""

import http.client
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from floway_core.testing import Reply, Step, message_stream
from floway_core.testing.events import DONE

from .raw_client import is_refused, wait_for

pytestmark = pytest.mark.soak  # long: many processes, or waits

CLIENTS = 6
RELOADS = 2


@pytest.mark.parametrize("kept", [True, False], ids=["kept connections", "new connections"])
def test_no_request_fails(start, fake_upstream, kept):
    """Clients that try nothing twice send one request after the other, for as long as workers come and go."""
    gateway = start(workers="2", graceful_timeout="20")
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    over = threading.Event()
    place = urlsplit(gateway.url).netloc

    def converse(number):
        connection, served = http.client.HTTPConnection(place, timeout=20), 0
        body = json.dumps({"model": "model-1", "input": "Hi", "stream": number % 2 == 0, "store": False})
        headers = {"authorization": f"Bearer {gateway.key}", "x-test-upstream": fake_upstream.url}
        while not over.is_set():
            connection.request("POST", "/v1/responses", body, headers)
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 200 and b'"completed"' in content
            served += 1
            if not kept:
                connection.close()
        connection.close()
        return served

    def reload():
        old = set(gateway.workers)
        gateway.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(found := set(gateway.workers)) == 2 and not found & old)

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(converse, number) for number in range(CLIENTS)]
        try:
            for _ in range(RELOADS):
                reload()
        finally:
            over.set()
        assert all(client.result() for client in clients)


def test_running_streams_finish_with_the_old_workers(start, call, fake_upstream):
    gateway = start(workers="1", graceful_timeout="20")
    ask = call(gateway)
    first, *others = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD, *others]))
    running = ask.stream()
    running.read_until(b"\n\n")
    (old,) = gateway.workers
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: set(gateway.workers) - {old})
    fake_upstream.script(Reply(message_stream()))
    assert ask.create().status == 200
    fake_upstream.release.set()
    assert running.body.endswith(DONE)
    wait_for(lambda: old not in gateway.worker_processes)


def test_it_can_be_stopped_while_old_workers_finish(start, call, fake_upstream):
    """The grace time is longer than this test is patient."""
    gateway = start(workers="1", graceful_timeout="600")
    ask = call(gateway)
    first, *others = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD, *others]))
    running = ask.stream()
    running.read_until(b"\n\n")
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(gateway.worker_processes) == 2)
    gateway.process.send_signal(signal.SIGTERM)
    wait_for(lambda: is_refused(gateway))
    fake_upstream.release.set()
    assert running.body.endswith(DONE)
    assert gateway.process.wait(60) == 0


@pytest.fixture
def breakable(start, tmp_path):
    """A gateway, and what breaks its settings or mends them."""
    file = tmp_path / "floway.toml"

    def write(days):
        file.write_text(f"retention_days = {days}")

    write(7)
    return start(workers="2", config=str(file)), write


def test_settings_that_are_broken_replace_nobody(breakable, call, fake_upstream):
    gateway, write = breakable
    before = gateway.workers
    write('"many"')
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "The workers are not replaced" in gateway.log)
    assert "FLOWAY_RETENTION_DAYS" in gateway.log or "retention_days" in gateway.log
    fake_upstream.script(Reply(message_stream()))
    assert call(gateway).create().status == 200
    assert gateway.workers == before


def test_a_worker_that_cannot_start_takes_nobody_with_it(breakable, call, fake_upstream):
    gateway, write = breakable
    killed, other = gateway.workers
    write('"many"')
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: "A worker could not start" in gateway.log)
    fake_upstream.script(Reply(message_stream()))
    assert call(gateway).create().status == 200 and other in gateway.workers
    write(7)
    told = gateway.log.count("could not start")
    wait_for(lambda: len(gateway.workers) == 2 and call(gateway).get("/readyz").status == 200)
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(60) == 0 and gateway.log.count("could not start") <= told + 1
