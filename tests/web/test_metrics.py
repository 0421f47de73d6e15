"""``/metrics``: added up over all workers, with labels that no client chooses, and not for everybody."""

import json
import os
import signal
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from floway_core.runtime.gateway import read_settings
from floway_core.runtime.plugins import build_plugin_manager
from floway_core.testing import ApiClient, Reply, Step, message_stream
from floway_core.testing.in_process import failing_commits
from floway_core.web.app import create_app

PATIENCE = 60
PLACE = {"route": "/v1/responses", "model": "model-1", "upstream": "first"}
TOKEN = "an-admin-token-of-some-length"


def samples(text):
    """Every sample by its name and labels."""
    return Counter(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


class Scraped:
    """What has changed since the last look."""

    def __init__(self, ask):
        self._ask = ask
        self._before = self._now()

    def _now(self):
        answer = self._ask.get("/metrics")
        assert answer.status == 200
        return samples(answer.body.decode())

    def value(self, name, **labels):
        """By how much a sample has grown."""
        key = (f"floway_{name}", frozenset(labels.items()))
        return self._now()[key] - self._before[key]

    def wait_for(self, wanted, name, **labels):
        """A stream is counted when the gateway has let go of it, a moment after its last byte."""
        deadline = time.monotonic() + PATIENCE
        while (value := self.value(name, **labels)) != wanted:
            assert time.monotonic() < deadline, value
            time.sleep(0.005)


@pytest.fixture
def ask(call, watched):
    """A client of a gateway with two workers."""
    return call(watched)


@pytest.fixture
def grown(ask):
    return Scraped(ask)


def in_all_workers(gateway, ask, fake_upstream):
    """Ask, until each of two workers has counted something, and return how often that was."""
    (folder,) = gateway.folder.glob("floway-metrics-*")
    asked = 0
    while not asked or len({file.name for pid in gateway.workers for file in folder.glob(f"counter_{pid}.db")}) < 2:
        assert asked < 1000
        fake_upstream.script(*[Reply(message_stream())] * 8)
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(lambda _: ask.create().status, range(8))) == {200}
        asked += 8
    return asked


def test_requests_of_all_workers_are_added_up(watched, ask, grown, fake_upstream):
    asked = in_all_workers(watched, ask, fake_upstream)
    fake_upstream.script(*[Reply(message_stream())] * 20)
    with ThreadPoolExecutor(5) as threads:
        assert all(threads.map(lambda _: ask.stream().body, range(20)))
    grown.wait_for(asked + 20, "requests_total", **PLACE, status="200", outcome="completed")
    assert grown.value("first_byte_seconds_count", **PLACE) == 20
    assert grown.value("request_seconds_count", **PLACE) == asked + 20
    assert grown.value("request_seconds_bucket", **PLACE, le="+Inf") == asked + 20
    for kind, each in {"input": 7, "cached": 3, "output": 5}.items():
        used = grown.value("tokens_total", model="model-1", upstream="first", continued="no", kind=kind)
        assert used == each * (asked + 20)
    # what a plugin counts is added up in the same way, and the collector that fails keeps nothing back
    assert grown.value("counting_attempts_total", kinds="canned wire") == asked + 20
    assert "Collecting the metrics of Broken failed" in watched.log


def test_what_dead_workers_have_counted_stays_and_their_streams_do_not(watched, ask, grown, fake_upstream):
    in_all_workers(watched, ask, fake_upstream)
    labels = {**PLACE, "status": "200", "outcome": "completed"}
    before = grown.value("requests_total", **labels)
    first, *_ = message_stream()
    fake_upstream.script(*[Reply([first, Step.HOLD])] * 3)
    streams = [ask.stream() for _ in range(3)]
    for stream in streams:
        stream.read_until(b"\n\n")
    assert grown.value("open_streams") == 3
    killed = set(watched.workers)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while len(set(watched.workers) - killed) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    grown.wait_for(0, "open_streams")
    assert grown.value("requests_total", **labels) == before
    asked = in_all_workers(watched, ask, fake_upstream)
    assert grown.value("requests_total", **labels) == before + asked
    told = [json.loads(line) for line in watched.log.splitlines()]  # gunicorn's words on the killing, too
    assert [line for line in told if line["logger"] == "gunicorn.error"]


def test_a_worker_that_has_just_begun_to_count_is_no_failure(watched, ask, grown):
    """Nor one that was killed then: its files are empty."""
    (folder,) = watched.folder.glob("floway-metrics-*")
    for kind in ("counter", "histogram", "gauge_livesum"):
        (folder / f"{kind}_999999.db").touch()
    assert grown.value("open_streams") == 0


def test_continued_conversations_open_streams_and_reasoning(ask, grown, fake_upstream):
    details = {"input_tokens_details": {"cached_tokens": 90}, "output_tokens_details": {"reasoning_tokens": 4}}
    usage = {"input_tokens": 100, "output_tokens": 10, **details}
    *begun, end = message_stream(usage=usage)
    fake_upstream.script(Reply(message_stream()), Reply([*begun, Step.HOLD, end]))
    first = ask.create().json()
    stream = ask.stream(previous_response_id=first["id"])
    stream.read_until(b"output_item.done")
    assert grown.value("open_streams") == 1
    fake_upstream.release.set()
    assert stream.body
    grown.wait_for(0, "open_streams")
    place = {"model": "model-1", "upstream": "first", "continued": "yes"}
    for kind, count in {"input": 100, "cached": 90, "output": 10, "reasoning": 4}.items():
        assert grown.value("tokens_total", **place, kind=kind) == count


def test_what_a_plugin_streams_is_counted_too(ask, grown):
    assert ask.get("/counting").body == b"onetwo"
    place = {"route": "/counting", "model": "none", "upstream": "none"}
    grown.wait_for(1, "requests_total", **place, status="200", outcome="none")
    assert grown.value("open_streams") == 0
    assert grown.value("first_byte_seconds_count", **place) == 1


def test_failures_of_upstreams_are_counted_by_reason(ask, grown, fake_upstream, unreachable):
    fake_upstream.script(Reply([b"{}"], 429), Reply([b"{}"], 500), Reply(message_stream()[:3]))
    assert [ask.create().status, ask.create(model="shared").status, ask.create().status] == [429, 200, 502]
    ask.headers["x-test-upstream"] = unreachable
    assert ask.create().status == 502
    for model, reason in (("model-1", "429"), ("shared", "500"), ("model-1", "upstream_unreachable")):
        assert grown.value("upstream_failures_total", model=model, upstream="first", reason=reason) == 1
    shared = {**PLACE, "model": "shared", "upstream": "second"}
    assert grown.value("requests_total", **shared, status="200", outcome="completed") == 1
    assert grown.value("requests_total", **PLACE, status="502", outcome="failed") == 1
    assert grown.value("requests_total", **PLACE, status="502", outcome="none") == 1


@pytest.mark.parametrize("stream", [True, False])
def test_responses_that_could_not_be_stored_are_counted(watched, ask, grown, fake_upstream, stream):
    fake_upstream.script(Reply(message_stream()))
    with failing_commits(watched.database):
        assert ask.create(stream=stream).body
    grown.wait_for(1, "commit_failures_total", upstream="first")
    assert grown.value("requests_total", **PLACE, status="200" if stream else "503", outcome="failed") == 1


def test_a_client_that_hangs_up_has_its_own_outcome(ask, grown, fake_upstream):
    first, *_ = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD]))
    stream = ask.stream()
    stream.read_until(b"\n\n")
    stream.hang_up()
    grown.wait_for(1, "requests_total", **PLACE, status="200", outcome="cut")


def test_no_client_chooses_a_label(ask, watched):
    def labels():
        shown = samples(ask.get("/metrics").body.decode())
        return {value for _, labels in shown for name, value in labels if name != "le"}

    known = labels()
    for _ in range(5):
        odd = uuid.uuid4().hex
        assert ask.create(model=odd).status == 404
        assert ask.create(odd, model="model-1\n" + odd).status == 404
        assert ask.get(f"/v1/responses/{odd}?x={odd}").status == 404
        assert ask.get(f"/{odd}", user_agent=odd).status == 404
        assert ask.send(odd[:12].upper(), "/v1/responses").status == 405
        assert ask.get("/v1/models", authorization=f"Bearer {odd}").status == 401
    routes = {"/v1/responses", "/v1/responses/<response_id>", "/v1/models", "/metrics", "none"}
    assert labels() - known <= routes | {"200", "401", "404", "405"}
    assert not {label for label in labels() if odd in label}


# ------------------------------------------------------------------------------------------------------------- access
@pytest.fixture
def client_of(tmp_path):
    """Makes a WSGI client of a gateway in this process, without plugins."""
    opened = []

    def make(**settings):
        manager = build_plugin_manager(only=())
        environ = {f"FLOWAY_{name.upper()}": value for name, value in settings.items()}
        app = create_app(read_settings(manager, {"FLOWAY_DATA_DIR": str(tmp_path), **environ}), manager)
        opened.append(app.extensions["floway"].services.database)
        return app.test_client()

    yield make
    for database in opened:
        database.close_all()


@pytest.mark.parametrize("settings", [{}, {"metrics": "off", "admin_token": TOKEN}])
def test_unless_somebody_may_read_them_there_are_none(client_of, settings):
    assert client_of(**settings).get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 404


def test_the_admin_token_opens_them(client_of):
    client = client_of(admin_token=TOKEN)
    for refused in ({}, {"authorization": "Bearer sk-floway-x"}, {"authorization": f"Basic {TOKEN}"}):
        answer = client.get("/metrics", headers=refused)
        assert (answer.status_code, answer.json["error"]["code"]) == (401, "invalid_admin_token")
    assert client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_process_alone_shows_its_own(client_of):
    client = client_of(metrics="open")
    for _ in range(3):
        assert client.get("/healthz").status_code == 200
    shown = samples(client.get("/metrics").text)
    place = {"route": "/healthz", "model": "none", "upstream": "none", "status": "200", "outcome": "none"}
    assert shown[("floway_requests_total", frozenset(place.items()))] == 3


def test_a_scraper_may_ask_for_another_format(client_of):
    answer = client_of(metrics="open").get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert answer.content_type.startswith("application/openmetrics-text") and answer.text.endswith("# EOF\n")


def test_every_metric_is_documented(ask, watched):
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    names = {family.name for family in text_string_to_metric_families(ask.get("/metrics").body.decode())}
    assert len(names) > 4
    assert {name for name in names if name not in page} == {"floway_counting_attempts"}


def test_a_stopped_server_leaves_nothing_behind(start_gateway):
    gateway = start_gateway({"metrics": "open"})
    assert list(gateway.folder.glob("floway-metrics-*"))
    assert gateway.stop() == 0
    assert not list(gateway.folder.glob("floway-metrics-*"))


def test_what_a_killed_server_leaves_is_removed_by_the_next_one(start_gateway, tmp_path):
    """It is told by a lock that ends with the last process; the folders of servers that run are left alone."""
    settings, environ = {"metrics": "open", "workers": "2"}, {"TMPDIR": str(tmp_path)}

    def folders():
        return set(tmp_path.glob("floway-metrics-*"))

    killed = start_gateway(settings, environ=environ)
    (left,) = folders()
    running = start_gateway(settings, environ=environ)
    (used,) = folders() - {left}
    worker, other = killed.workers
    for pid in (killed.process.pid, worker):
        os.kill(pid, signal.SIGSTOP)  # the other worker would not be alone otherwise
    os.kill(other, signal.SIGKILL)
    start_gateway(settings, environ=environ).stop()
    assert folders() == {left, used}  # one worker is enough
    for pid in (killed.process.pid, worker):
        os.kill(pid, signal.SIGKILL)
    killed.process.wait(PATIENCE)
    start_gateway(settings, environ=environ)
    assert left not in folders() and used in folders() and len(folders()) == 2
    assert samples(ApiClient(running.url, running.key).get("/metrics").body.decode())
