"""Usage: exact over workers and hosts, stored without delaying requests, with a cost known or marked unknown."""

import datetime
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from floway_core.prices import Price, parse_prices
from floway_core.protocol.usage import Tokens
from floway_core.runtime.gateway import read_settings
from floway_core.runtime.plugins import build_plugin_manager
from floway_core.storage import keys, migrate, usage
from floway_core.storage.db import connect
from floway_core.storage.usage import UsageBuffer
from floway_core.testing import ApiClient, Reply, RunningGateway, Step, message_stream
from floway_core.web.app import create_app

from ..support.stored_upstreams import add_upstreams

pytestmark = pytest.mark.soak  # long: many processes, or many examples

TODAY = datetime.datetime.now(datetime.UTC).date()
TOKEN = "an-admin-token-of-some-length"
PRICES = """
["model-1"]
input = 4
cached_input = 1
output = 10
flex = { output = 1 }

["org/model-3"]
input = 1
output = 1
"""
COST = (4 * 4 + 3 * 1 + 5 * 10) / 1e6
"""Of one answer of ``message_stream``: 4 tokens of new input, 3 cached, 5 of output."""


@pytest.fixture
def database(new_database):
    database = connect(new_database())
    migrate.apply(database, [migrate.CORE])
    yield database
    database.close_all()


def add(pending, *, key="ann", model="m", upstream="u", tokens=(10, 4, 5, 2), cost=0.5, failed=False):
    pending.add(key, model, upstream, Tokens(*tokens), cost, failed)


# ---------------------------------------------------------------------------------------------------------- the gateway
@pytest.fixture
def serve(plugin_folder, journal_file, fake_upstream, tmp_path):
    """Starts a gateway with two workers and a price table, and a client of it."""
    started = []

    def start(**settings):
        (tmp_path / "prices.toml").write_text(PRICES)
        settings = {"workers": "2", "prices": str(tmp_path / "prices.toml"), "admin_token": TOKEN, **settings}
        environ = {"TEST_JOURNAL": str(journal_file)}
        started.append(RunningGateway(settings, plugin_folders=[plugin_folder], environ=environ))
        add_upstreams(started[-1], first="wire", second="canned")
        return started[-1], ApiClient(started[-1].url, started[-1].key, {"x-test-upstream": fake_upstream.url})

    yield start
    for gateway in started:
        gateway.__exit__()


def shown(gateway, *arguments):
    done = gateway.run("usage", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nothing_is_lost_when_two_workers_serve_and_are_stopped(serve, fake_upstream, new_database):
    gateway, ask = serve(database_url=new_database())
    count = 60
    fake_upstream.script(*[Reply(message_stream())] * count)
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda place: ask.create(stream=place % 2 == 0).body, range(count)))
    fake_upstream.script(Reply([b"{}"], 429), Reply(message_stream(service_tier="flex")), Reply(message_stream()))
    for model, status in (("model-1", 429), ("model-1", 200), ("model-2", 200), ("nope", 404), ("canned", 200)):
        answer = ask.create(model=model)
        assert answer.body and answer.status == status
    assert ask.post(b"?").body and ask.get("/v1/models").body  # read to their ends, so that nothing holds up the stop
    assert gateway.stop() == 0
    groups = [word for name in ("day", "key", "model", "upstream") for word in ("--by", name)]
    rows = {row["model"]: row for row in shown(gateway, *groups)}
    group = {"day": str(TODAY), "key": "test"}
    assert rows["model-1"] == {
        **group,
        "model": "model-1",
        "upstream": "first",
        "requests": count + 2,
        "failed_requests": 1,
        "input_tokens": 7 * (count + 1),
        "cached_tokens": 3 * (count + 1),
        "output_tokens": 5 * (count + 1),
        "reasoning_tokens": 0,
        "unpriced_requests": 0,
        "known_cost_usd": pytest.approx(COST * count + (4 * 4 + 3 * 1 + 5 * 1) / 1e6),
        "cost_usd": pytest.approx(COST * count + (4 * 4 + 3 * 1 + 5 * 1) / 1e6),
    }
    unpriced = {"requests": 1, "input_tokens": 7, "unpriced_requests": 1, "known_cost_usd": 0, "cost_usd": None}
    assert unpriced.items() <= rows["model-2"].items()
    nobody = {"upstream": "-", "requests": 2, "failed_requests": 2, "input_tokens": 0, "cost_usd": 0}
    assert nobody.items() <= rows["-"].items()
    assert {"upstream": "second", "requests": 1, "input_tokens": 0, "cost_usd": 0}.items() <= rows["canned"].items()
    assert set(rows) == {"model-1", "model-2", "canned", "-"}


def test_a_worker_that_cuts_requests_off_stores_what_it_has_counted(serve, fake_upstream):
    gateway, ask = serve(workers="1", graceful_timeout="1")
    first, *_ = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD]), Reply(message_stream()))
    held = ask.stream()
    held.read_until(b"\n\n")
    assert ask.create().status == 200
    gateway.stop()
    (row,) = shown(gateway)
    assert row["input_tokens"] == 7


TIERS = [(None, 10), ("default", 10), ("flex", 1), ("priority", 10), ("of tomorrow", 10)]
"""The tier that an answer was served in, and what a million of its output tokens costs."""


def test_answers_cost_what_their_tier_does(serve, fake_upstream):
    """US-1 to US-6: input, cached and output tokens are counted apart; what an upstream does not tell is nothing."""
    gateway, caller = serve()
    for tier, _ in TIERS:
        fake_upstream.script(Reply(message_stream(**({"service_tier": tier} if tier else {}))))
        assert caller.create().status == 200
    fake_upstream.script(Reply(message_stream(usage=None)), Reply(message_stream()))
    assert [caller.create(model=model).status for model in ("model-1", "model-2")] == [200, 200]
    gateway.stop()
    rows = {row["model"]: row for row in shown(gateway)}
    assert rows["model-1"]["cost_usd"] == pytest.approx(sum(4 * 4 + 3 * 1 + 5 * output for _, output in TIERS) / 1e6)
    counted = [rows["model-1"][name] for name in ("requests", "input_tokens", "cached_tokens", "output_tokens")]
    assert counted == [len(TIERS) + 1, *(len(TIERS) * each for each in (7, 3, 5))]
    assert rows["model-2"]["cost_usd"] is None and rows["model-2"]["output_tokens"] == 5


# ------------------------------------------------------------------------------------------------------------- reading
@pytest.fixture
def used(install):
    """An installation with some usage."""
    installation = install()
    installation.data_dir.mkdir()
    database, pending = connect(f"sqlite:///{installation.database}"), UsageBuffer()
    migrate.apply(database, [migrate.CORE])
    for model, cost in (("priced", 0.0001), ("priced", 0.0001), ("unpriced", None)):
        add(pending, model=model, cost=cost, tokens=(7, 3, 5, 1))
    assert pending.flush(database)
    database.close_all()
    return installation


def test_usage_for_people(used):
    lines = used.run("usage").stdout.splitlines()
    assert lines[0].split() == [
        *("KEY", "MODEL", "REQUESTS", "FAILED", "INPUT", "CACHED", "OUTPUT", "REASONING", "COST", "(USD)"),
    ]
    assert [line.split() for line in lines[1:]] == [
        ["ann", "priced", "2", "0", "14", "6", "10", "2", "0.0002"],
        ["ann", "unpriced", "1", "0", "7", "3", "5", "1", "unknown"],
        ["all", "3", "0", "21", "9", "15", "3", "0.0002", "+", "unknown"],
    ]
    for wrong in (["--since", "yesterday"], ["--by", "colour"]):
        done = used.run("usage", *wrong)
        assert done.returncode == 2 and wrong[0] in done.stderr and "Traceback" not in done.stderr


def test_the_admin_api_tells_the_same(used):
    manager = build_plugin_manager(only=())
    app = create_app(read_settings(manager, {**used.environ, "FLOWAY_ADMIN_TOKEN": TOKEN}), manager)
    client, headers = app.test_client(), {"authorization": f"Bearer {TOKEN}"}
    for query, arguments in (("", []), ("?by=upstream,day&since=7d", ["--by", "upstream", "--by", "day"])):
        told = client.get(f"/admin/api/usage{query}", headers=headers).json
        assert told == {"data": shown(used, *arguments)} and told["data"]
    tomorrow = TODAY + datetime.timedelta(days=1)
    assert client.get(f"/admin/api/usage?since={tomorrow}", headers=headers).json == {"data": []}
    for query, param in (
        ("?by=colour", "by"),
        ("?by=", "by"),
        ("?since=soon", "since"),
        ("?since=2026-13-01", "since"),
    ):
        answer = client.get(f"/admin/api/usage{query}", headers=headers)
        assert (answer.status_code, answer.json["error"]["param"]) == (400, param)
    assert client.get("/admin/api/usage").status_code == 401
    app.extensions["floway"].services.database.close_all()


# ------------------------------------------------------------------------------------------------------------ the store
def test_many_processes_add_to_the_same_rows(database):
    pendings = [UsageBuffer() for _ in range(8)]

    def work(pending):
        for number in range(20):
            for model in ("a", "b", "c")[:: 1 if number % 2 else -1]:
                add(pending, model=model, failed=number == 0)
            assert pending.flush(database)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, pendings))
    for row in usage.read(database, ["model"]):
        assert (row.requests, row.failed_requests, row.input_tokens) == (160, 8, 1600)
        assert row.known_cost_usd == pytest.approx(80)


def test_what_cannot_be_stored_waits(new_sqlite, tmp_path):
    database = connect(f"sqlite:///{tmp_path}/away.db")
    pending = UsageBuffer()
    for _ in range(1000):
        add(pending)
    assert not pending.flush(database)  # there is no such table yet
    add(pending)
    assert not pending.flush(database)
    migrate.apply(database, [migrate.CORE])
    assert pending.flush(database) and pending.flush(database)
    (row,) = usage.read(database, ["key"])
    assert (row.requests, row.reasoning_tokens) == (1001, 2002)
    database.close_all()


def test_usage_outlives_its_key(database):
    pending = UsageBuffer()
    keys.create(database, "ann")
    add(pending)
    keys.delete(database, "ann")
    assert pending.flush(database)
    (row,) = usage.read(database, ["key"])
    assert row.group == {"key": "ann"}


@pytest.mark.parametrize("name", ["\0", "a\0b", "\ud800", "x" * 10_000, "'; DROP TABLE usage; --", ""], ids=ascii)
def test_no_name_keeps_the_others_from_being_stored(database, name):
    pending = UsageBuffer()
    add(pending, model=name)
    add(pending, model=name.replace("\0", ""))
    add(pending, model="plain", tokens=(10**9, 10**9, 10**9, 10**9))
    assert pending.flush(database)
    rows = usage.read(database, ["model"])
    assert sum(row.requests for row in rows) == 3 and all(len(row.group["model"]) <= 200 for row in rows)


def test_days_are_those_of_utc(database, monkeypatch):
    pending = UsageBuffer()
    for moment in ("2026-01-31T23:59:59+00:00", "2026-02-01T00:00:00+00:00"):
        monkeypatch.setattr(usage.time, "time", datetime.datetime.fromisoformat(moment).timestamp)
        add(pending)
    assert pending.flush(database)
    assert [row.group["day"] for row in usage.read(database, ["day"])] == ["2026-01-31", "2026-02-01"]
    assert len(usage.read(database, ["day"], datetime.date(2026, 2, 1))) == 1


# --------------------------------------------------------------------------------------------------------------- prices
def test_a_price_table():
    prices = parse_prices(PRICES)
    price = prices["model-1"]
    assert price == Price(4, 10, 1, {"flex": Price(4, 1, 1)})
    assert prices["org/model-3"].cached_input == 1
    tokens = Tokens(1_000_000, 400_000, 100_000, 50_000)
    assert price.cost(tokens) == price.cost(tokens, "priority") == pytest.approx(0.6 * 4 + 0.4 + 1)
    assert price.cost(tokens, "flex") == pytest.approx(0.6 * 4 + 0.4 + 0.1)
    assert price.cost(Tokens(5, 10, 0, 0)) == pytest.approx(5 / 1e6)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("m = 5", "'m'"),
        ("[m]\ninput = 5", "'output'"),
        ("[m]\ninput = 5\noutput = -1", "'output'"),
        ("[m]\ninput = 5\noutput = nan", "'output'"),
        ("[m]\ninput = true\noutput = 1", "'input'"),
        ("[m]\ninput = 1\noutput = 1\nreasoning = 2", "'reasoning'"),
        ("[m]\ninput = 1\noutput = 1\nflex = { inputs = 2 }", "'inputs'"),
        ("[m", "table"),
    ],
)
def test_a_price_table_that_is_wrong(text, named):
    with pytest.raises(ValueError, match=named):
        parse_prices(text)


@pytest.mark.parametrize("command", [["serve"], ["keys", "list"], ["config"]])
def test_every_command_reports_a_price_table_that_is_wrong(install, tmp_path, command):
    (tmp_path / "prices.toml").write_text("[m]\ninput = 5")
    with socket.create_server(("127.0.0.1", 0)) as used:  # it is reported before an address is tried, too
        for name, reason in (("prices.toml", "'m' has no 'output'"), ("missing.toml", "No such file or directory")):
            bind = f"127.0.0.1:{used.getsockname()[1]}"
            installation = install({"prices": str(tmp_path / name), "bind": bind})
            done = installation.run(*command)
            (line,) = done.stderr.splitlines()
            assert done.returncode == 1 and "FLOWAY_PRICES" in line and name in line and reason in line
            assert not (Path(installation.environ["FLOWAY_DATA_DIR"]) / "floway.db").exists()
