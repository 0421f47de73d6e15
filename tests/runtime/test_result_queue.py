"""The queue between requests and an observer: when it drops results, and how it survives a fork."""

import logging
import os
import threading
import time
from types import SimpleNamespace

from floway_core.runtime import observers
from floway_core.runtime.observers import ResultQueue

PATIENCE = 60


def test_a_plugin_that_is_too_slow_loses_results(caplog):
    pending, begun, go_on, calls = ResultQueue("snail", max_pending=2), threading.Event(), threading.Event(), []
    pending.put([("on_request_end", lambda: (begun.set(), go_on.wait(PATIENCE)))])
    assert begun.wait(PATIENCE)
    with caplog.at_level(logging.WARNING, "floway.plugins"):
        for number in range(5):
            pending.put([("on_request_end", lambda number=number: calls.append(number))])
    assert not pending.flush(0)
    go_on.set()
    assert pending.flush(PATIENCE)
    assert calls == [0, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "Observer 'snail' is too slow in on_request_end: 1 results dropped so far"
    ]


def test_without_a_thread_to_be_had_a_result_is_lost(caplog, monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    pending, calls = ResultQueue("poor"), []
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "floway.plugins"):
        patch.setattr(threading.Thread, "start", fail)
        pending.put([("on_request_end", lambda: calls.append("lost"))])
    pending.put([("on_request_end", lambda: calls.append("next"))])
    assert pending.flush(PATIENCE)
    assert calls == ["next"]
    assert [record.getMessage() for record in caplog.records] == [
        "Observer 'poor' has no thread in on_request_end: 1 results dropped so far"
    ]


def test_a_fork_starts_with_a_queue_and_a_thread_of_its_own():
    pending, parent_calls = ResultQueue("forked"), []
    pending.put([("on_request_end", lambda: parent_calls.append(os.getpid()))])
    assert pending.flush(PATIENCE)
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        pending.put([("on_request_end", lambda: os.write(sender, b"%d" % os.getpid()))])
        os._exit(0 if pending.flush(PATIENCE) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.read(receiver, 100) == b"%d" % child
    assert parent_calls == [os.getpid()]
    os.close(receiver)
    os.close(sender)


def test_results_are_delivered_in_batches(monkeypatch):
    """The thread wakes for the first of them, not for those that follow within a moment."""
    asleep, go_on, delivered, pauses = threading.Event(), threading.Event(), [], []

    def sleep(seconds):
        pauses.append(seconds)
        asleep.set()
        assert go_on.wait(PATIENCE)

    # a module of its own, because other threads of this process sleep, too
    monkeypatch.setattr(observers, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    pending = ResultQueue("busy")
    for number in range(3):
        pending.put([("on_request_end", lambda number=number: delivered.append(number))])
        assert asleep.wait(PATIENCE)
    assert delivered == []
    go_on.set()
    assert pending.flush(PATIENCE)
    assert delivered == [0, 1, 2] and set(pauses) == {observers.BATCHING_SECONDS}
