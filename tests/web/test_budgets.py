"""Budgets on a running gateway with two workers: the charge for each kind of request, and when requests are refused."""

import contextlib
import json
import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from floway_core.prices import parse_prices
from floway_core.protocol.usage import usage_of
from floway_core.storage import groups, keys
from floway_core.storage.db import connect
from floway_core.testing import ApiClient, Reply, RunningGateway, Step, message_stream

from ..support.stored_upstreams import add_upstreams
from ..support.websocket_client import WebSocketClient

TOKEN = "an-admin-token-of-some-length"
PRICES = """
["model-1"]
input = 4
cached_input = 1
output = 10
"""
COST = (4 * 4 + 3 * 1 + 5 * 10) / 1e6
"""Of one answer of ``message_stream``: 4 tokens of new input, 3 cached, 5 of output."""


@pytest.fixture(scope="module")
def gateway(plugin_folder, journal_file, tmp_path_factory):
    prices = tmp_path_factory.mktemp("prices") / "prices.toml"
    prices.write_text(PRICES)
    settings = {"workers": "2", "prices": str(prices), "admin_token": TOKEN, "log_format": "json"}
    environ = {"TEST_JOURNAL": str(journal_file)}
    with RunningGateway(settings, plugin_folders=[plugin_folder], environ=environ) as running:
        add_upstreams(running, first="wire")
        yield running


@pytest.fixture(scope="module")
def database(gateway):
    database = connect(f"sqlite:///{gateway.database}")
    yield database
    database.close_all()


@pytest.fixture
def caller(gateway, database, fake_upstream):
    """Makes a client with a key of its own."""

    def make(**options):
        name = uuid.uuid4().hex
        client = ApiClient(gateway.url, keys.create(database, name, options), {"x-test-upstream": fake_upstream.url})
        client.name = name
        return client

    return make


@pytest.fixture
def spent(database):
    return lambda client: keys.find(database, client.name).spent.usd_today


# ------------------------------------------------------------------------------------------------------- the whole sum
def random_reply(rnd):
    """A reply, and what it costs in USD."""
    tokens = {"input_tokens": rnd.randint(0, 5000), "output_tokens": rnd.randint(0, 3000)}
    tokens["input_tokens_details"] = {"cached_tokens": rnd.randint(0, tokens["input_tokens"])}
    cost = parse_prices(PRICES)["model-1"].cost(usage_of({"usage": tokens}))
    return Reply(message_stream(usage=tokens)), cost


def test_the_sum_is_that_of_the_table_and_only_running_requests_exceed_a_budget(
    gateway, database, caller, fake_upstream
):
    """Any requests, on two workers: each one that was let in is charged, and at most those exceed the budget that ran
    when it was reached."""
    rnd, threads = random.Random(20), 4
    replies = [random_reply(rnd) for _ in range(80)]
    fake_upstream.script(*(reply for reply, _ in replies))
    budget, group = sum(cost for _, cost in replies) / 3, uuid.uuid4().hex
    groups.add(database, group, {"usd_per_month": round(budget, 9)})
    clients = [caller(group=group, usd_per_day=100) for _ in range(2)]
    answered, lock = [], threading.Lock()

    def ask_until_refused(number):
        while True:
            answer = clients[number % 2].create(model="model-1", stream=(number + len(answered)) % 3 > 0)
            body = answer.body
            if answer.status == 429:
                return json.loads(body)["error"]["code"]
            assert answer.status == 200
            used = answer.events()[-1]["response"] if body.startswith(b"event") else json.loads(body)
            with lock:
                answered.append((number % 2, parse_prices(PRICES)["model-1"].cost(usage_of(used))))

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(ask_until_refused, range(threads))) == ["insufficient_quota"] * threads
    costs = [cost for _, cost in answered]
    total = groups.find(database, group).spent.usd_this_month
    assert total == pytest.approx(sum(costs), abs=1e-9 * len(costs)) and len(costs) > threads
    assert budget <= total
    most = sorted(costs)[-threads:]
    assert total - sum(most) < budget  # one request of each thread may have been running
    for place, client in enumerate(clients):
        own = keys.find(database, client.name).spent.usd_today
        assert own == pytest.approx(sum(cost for owner, cost in answered if owner == place), abs=1e-9 * len(costs))
    assert len(fake_upstream.requests) == len(costs)


# --------------------------------------------------------------------------------------------------- kinds of requests
def test_a_refusal_in_full(gateway, caller, fake_upstream, refused):
    client = caller(usd_per_day=0.000035)
    fake_upstream.script(Reply(message_stream()))
    first = client.create(model="model-1", stream=True)
    assert first.status == 200 and first.body and first.headers["x-ratelimit-remaining-usd"] == "0.000035"
    late = client.create(model="model-1")
    message = refused(late, 429, "insufficient_quota", type="insufficient_quota")
    assert message.startswith("Budget used up: This API key has spent 0.000069 of 0.000035 USD today. It begins anew")
    assert 0 < int(late.headers["retry-after"]) <= 86_400 and late.headers["x-should-retry"] == "false"
    assert client.get("/v1/models").status == 200  # reading costs nothing


def test_compaction_and_the_background_are_charged(caller, spent, fake_upstream, gateway):
    client = caller(usd_per_day=1)
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    assert client.post({"model": "model-1", "input": "Hi"}, "/v1/responses/compact").status == 200
    assert spent(client) == pytest.approx(COST)
    response = client.create(model="model-1", background=True).json()
    gateway.wait_for_log(f'BACKGROUND /v1/responses 200","request_id":"{_request_id(response["id"])}"')
    assert spent(client) == pytest.approx(2 * COST)


def _request_id(response_id):
    return str(uuid.UUID(response_id.removeprefix("resp_")))


def test_turns_of_a_websocket_are_charged(caller, spent, fake_upstream, gateway):
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    client = caller(usd_per_day=1.5 * COST)
    place = SimpleNamespace(url=gateway.url, key=client.headers["authorization"].removeprefix("Bearer "))
    socket = WebSocketClient(place, {"x-test-upstream": fake_upstream.url})
    for turn in (1, 2):
        socket.turn()
        assert spent(client) == pytest.approx(turn * COST)
    error = socket.refused(429, "insufficient_quota")
    assert error["message"].startswith("Budget used up")
    socket.connection.close()


def test_hanging_up_saves_no_money(caller, spent, fake_upstream, gateway):
    client = caller(usd_per_day=1)
    first, *rest = message_stream("Much text. " * 400)
    fake_upstream.script(Reply([first, *rest[:-2], Step.HOLD]))
    with contextlib.closing(_Held(client)) as held:
        held.answer.read_until(b"output_text.delta")
        request_id = held.answer.headers["x-request-id"]
    gateway.wait_for_log(request_id)
    # A token for four bytes: about 1100 of them in the text that had arrived, and a few in the question.
    assert 1000 * 10 / 1e6 < spent(client) < 1500 * 10 / 1e6


class _Held:
    def __init__(self, client):
        self.answer = client.stream(model="model-1", input="Hi")

    def close(self):
        self.answer.hang_up()


def test_a_response_without_usage_is_estimated_and_a_refusal_is_free(caller, spent, fake_upstream):
    client = caller(usd_per_day=1)
    fake_upstream.script(Reply([b'{"error": {"message": "No.", "type": "t", "param": null, "code": "c"}}'], 400))
    assert client.create(model="model-1").status == 400
    assert spent(client) == 0
    fake_upstream.script(Reply(message_stream(usage=None)))
    assert client.create(model="model-1").status == 200
    assert 0 < spent(client) < COST * 10


def test_counting_tokens_is_free(caller, spent, fake_upstream):
    client = caller(usd_per_day=1e-9)
    for _ in range(2):
        assert client.post({"model": "model-1", "input": "Hi"}, "/v1/responses/input_tokens").status == 200
    assert spent(client) == 0


# ------------------------------------------------------------------------------------------------------ unknown prices
def test_a_model_without_a_price_is_refused_unless_the_budget_allows_it(
    gateway, database, caller, refused, fake_upstream
):
    client, free = caller(usd_per_day=1), caller()
    assert "price of model-2" in refused(client.create(model="model-2"), 403, "price_unknown", "model")
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["model-1"]
    assert len(free.get("/v1/models").json()["data"]) == 4
    keys.change(database, client.name, {"allows_unpriced": True})
    fake_upstream.script(Reply(message_stream()))
    answer = client.create(model="model-2")
    assert answer.status == 200 and answer.body
    spent = keys.find(database, client.name).spent
    assert (spent.usd_today, spent.unpriced_requests) == (0, 1)
    (line,) = gateway.wait_for_log(answer.headers["x-request-id"])
    assert json.loads(line)["cost_usd"] is None and json.loads(line)["output_tokens"] == 5


def test_the_cost_stands_in_the_log(gateway, caller, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    answer = caller().create(model="model-1")
    assert answer.body
    (line,) = gateway.wait_for_log(answer.headers["x-request-id"])
    assert json.loads(line)["cost_usd"] == pytest.approx(COST)


# ------------------------------------------------------------------------------------------------- what operators see
def test_groups_over_http_and_in_the_metrics(gateway, caller, refused, fake_upstream):
    admin = ApiClient(gateway.url, TOKEN)
    made = admin.send("POST", "/admin/api/groups", b'{"name": "the team", "usd_per_month": 0.000138}')
    assert made.status == 201
    group = made.json()
    nothing = {"usd_today": 0, "usd_this_month": 0, "unpriced_requests": 0}
    assert {name: group[name] for name in ("name", "usd_per_day", "usd_per_month", "allows_unpriced")} == {
        "name": "the team",
        "usd_per_day": None,
        "usd_per_month": 0.000138,
        "allows_unpriced": False,
    }
    assert (group["keys"], group["spent"]) == ([], nothing)
    client = caller(group="the team")
    fake_upstream.script(Reply(message_stream()))
    assert client.create(model="model-1").body
    shown = admin.get("/admin/api/groups/the team".replace(" ", "%20")).json()
    assert shown["keys"] == [client.name] and shown["spent"]["usd_today"] == pytest.approx(COST)
    assert admin.get(f"/admin/api/keys/{client.name}").json()["group"] == "the team"
    metrics = ApiClient(gateway.url, TOKEN).get("/metrics").body.decode()
    assert 'floway_budget_used_ratio{group="the team",period="month"} 0.5' in metrics
    refused(admin.send("POST", "/admin/api/groups", b'{"name": "the team"}'), 409, None, "name")
    refused(admin.send("DELETE", "/admin/api/groups/the%20team"), 409, "group_in_use", "name")
    refused(admin.send("PATCH", "/admin/api/groups/the%20team", b'{"usd": 1}'), 400, None, "usd")
    refused(admin.send("GET", "/admin/api/groups/nobody"), 404, None, "name")
    changed = admin.send("PATCH", "/admin/api/groups/the%20team", b'{"name": "they", "usd_per_month": null}')
    assert (changed.json()["name"], changed.json()["usd_per_month"]) == ("they", None)
    path = f"/admin/api/keys/{client.name}"
    assert admin.send("PATCH", path, b'{"group": null, "usd_per_day": 2.5}').json()["usd_per_day"] == 2.5
    refused(admin.send("PATCH", path, b'{"group": "the team"}'), 400, None, "group")
    assert admin.send("DELETE", "/admin/api/groups/they").status == 204
