"""Background responses of a process that stops."""

from types import SimpleNamespace

from floway_core.conversation import background
from floway_core.engine.background import BackgroundRuns, _Run
from floway_core.engine.event_recorder import EventRecorder


def test_a_response_runs_until_its_end_is_stored(monkeypatch):
    """A worker that stops exits when no response runs any more."""
    gateway = SimpleNamespace(
        services=SimpleNamespace(database=None), turn_leases=SimpleNamespace(release=lambda lease: None)
    )
    runs = BackgroundRuns(gateway)
    run = _Run(1, {"id": "resp_1"}, SimpleNamespace(close=lambda: None), EventRecorder(keeps=False))
    runs._runs["resp_1"] = run
    running = []
    monkeypatch.setattr(background, "end", lambda *arguments: running.append(len(runs)))
    monkeypatch.setattr(runs, "_wake", lambda: None)
    runs._end(run, {}, lambda: None)
    assert (running, len(runs)) == ([1], 0)
