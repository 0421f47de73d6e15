"""What a worker notes of requests, and what of it is in the database when things go wrong."""

import contextlib
import time

import peewee
import pytest
from floway_dashboard.figures import today
from floway_dashboard.recording import first_bytes, recorder, requests

from floway_core.contexts import ApiKey, AttemptContext, ClientRequest, Upstream
from floway_core.protocol.usage import Tokens
from floway_core.results import AttemptResult, EndedAttempt, RequestResult
from floway_core.runtime.gateway import open_services, read_settings
from floway_core.runtime.plugins import build_plugin_manager
from floway_core.storage.db import close_connections
from floway_core.testing import Installation

UPSTREAM = Upstream("up_1", "echo", "mirror", True, 1)


@pytest.fixture
def services():
    with Installation() as installation:
        manager = build_plugin_manager(only=["dashboard"])
        services = open_services(read_settings(manager, {"FLOWAY_DATA_DIR": str(installation.data_dir)}), manager)
        yield services
        close_connections(services.database)


@pytest.fixture
def worker(services):
    return recorder.Recorder(services)


def attempt(name, agent="curl"):
    request = ClientRequest(name, ApiKey("key_1", "ada"), {"user-agent": agent}, {"model": "fast"}, True, None)
    return AttemptContext(f"{name}.1", request, UPSTREAM, None, "echo")


def result(name, **changes):
    values = {"method": "POST", "route": "/v1/responses", "dialect": "responses", "key": "ada", "model": "fast"}
    values |= {"upstream": "mirror", "streamed": True, "status": 200, "outcome": "completed", "error": None, "tier": ""}
    values |= {"seconds": 2.0, "first_byte_seconds": 0.5, "attempts": 1, "dispatches": 1, "started_at": time.time()}
    return RequestResult(id=name, tokens=Tokens(10, 4, 3, 0), **{**values, **changes})


def end_attempt(worker, seconds, key="ada"):
    ended = EndedAttempt("1.1", "1", key, "responses", "echo", "echo", UPSTREAM)
    outcome = AttemptResult("completed", 200, None, Tokens(0, 0, 0, 0), "", 1.0, seconds, 1)
    worker.end_attempt(ended, outcome)


def shown(services):
    return [(row.id, row.is_running) for row in requests.read(services.database)]


def test_a_request_runs_and_ends(services, worker):
    worker.begin(attempt("a", "my client"))
    worker.flush()
    (row,) = requests.read(services.database)
    assert (row.id, row.is_running, row.api_key, row.model, row.upstream) == ("a", True, "ada", "fast", "mirror")
    worker.end(result("a"))
    worker.flush()
    (row,) = requests.read(services.database)
    assert (row.is_running, row.client, row.input_tokens, row.cached_tokens, row.output_tokens) == (
        False,
        "my client",
        10,
        4,
        3,
    )


def test_another_attempt_keeps_the_beginning(services, worker):
    worker.begin(attempt("a"))
    worker.flush()
    before = requests.read(services.database)[0].started_at
    worker.begin(attempt("a"))
    worker.flush()
    (row,) = requests.read(services.database)
    assert row.started_at == before


def test_the_latest_ones_are_kept(services, worker):
    for number in range(requests.MAX_ENDED + 60):
        worker.end(result(f"{number:04}", started_at=1000.0 + number))
        if number % 50 == 49:
            worker.flush()
    worker._pruned_at = 0.0
    worker.flush()
    rows = requests.read(services.database, 1000)
    assert rows[0].id == f"{requests.MAX_ENDED + 59:04}" and requests.MAX_ENDED <= len(rows) <= requests.MAX_ENDED + 1


def test_running_requests_of_a_worker_that_died_disappear(services, worker, monkeypatch):
    worker.begin(attempt("a"))
    worker.flush()
    now = time.time()
    monkeypatch.setattr(requests.time, "time", lambda: now + requests.ALIVE_SECONDS + 2)
    assert shown(services) == []
    worker.flush()  # it lives after all
    assert shown(services) == [("a", True)]


def test_a_request_whose_end_was_lost_does_not_run_for_ever(services, worker):
    worker.begin(attempt("a"))
    worker.flush()
    worker._lost_after = -1.0
    worker.flush()
    assert shown(services) == []


def test_more_running_requests_than_are_shown_cost_nothing_more(services, worker):
    for number in range(requests.MAX_RUNNING + 50):
        worker.begin(attempt(f"{number:04}"))
    worker.flush()
    assert len(shown(services)) == requests.MAX_RUNNING
    for number in range(requests.MAX_RUNNING + 50):
        worker.end(result(f"{number:04}"))
    worker.flush()
    assert not [row for row, is_running in shown(services) if is_running]


def test_nothing_is_lost_while_the_database_is_away(services, worker, monkeypatch):
    @contextlib.contextmanager
    def away(database):
        raise peewee.OperationalError("away")
        yield

    worker.begin(attempt("a"))
    worker.end(result("b"))
    end_attempt(worker, 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "transaction", away)
        worker.flush()
    assert shown(services) == []
    worker.flush()
    assert shown(services) == [("a", True), ("b", False)]
    assert first_bytes.read(services.database, "key", ["ada"], today())["ada"].median == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 500])
def test_what_clients_say_can_be_stored(services, worker, text):
    worker.begin(attempt("a", text))
    worker.end(result("b", model=text, error=text))
    worker.flush()
    assert [row.id for row in requests.read(services.database)] == ["a", "b"]


def test_requests_without_a_key_are_shown_only_if_they_had_a_wrong_one(services, worker):
    worker.end(result("page", key=None, route="/dashboard", model=None))
    worker.end(result("wrong", key=None, status=401, error="invalid_api_key"))
    worker.flush()
    assert shown(services) == [("wrong", False)]


def test_times_add_up_over_workers(services, worker):
    other = recorder.Recorder(services)
    for one in (worker, other):
        for _ in range(48):
            end_attempt(one, 0.2)
        end_attempt(one, 5.0)
        end_attempt(one, None)
        one.flush()
    for dimension, name in (("all", ""), ("key", "ada"), ("model", "echo"), ("upstream", "mirror")):
        (times,) = first_bytes.read(services.database, dimension, [name], today()).values()
        assert times.median == pytest.approx(0.2, rel=0.1) and times.slow == pytest.approx(0.2, rel=0.1)
    for _ in range(20):
        end_attempt(worker, 5.0)
    worker.flush()
    assert first_bytes.read(services.database, "all", [""], today())[""].slow == pytest.approx(5.0, rel=0.1)


@pytest.mark.parametrize("seconds", [0.0, 0.0005, 0.001, 0.03, 1.0, 59.0, 3600.0])
def test_a_bucket_is_near_its_times(seconds):
    middle = first_bytes.middle_of(first_bytes.bucket_of(seconds))
    assert middle == pytest.approx(max(seconds, 0.001), rel=0.11)
