"""What clients and operators see of an account that cannot be used, or whose quota is used up, through a gateway."""

import json
import threading
import urllib.request

import pytest
from floway_codex.simulator import Simulator, refusal

from . import gateways

pytestmark = pytest.mark.soak  # long: many processes, or many examples


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as running:
        yield running


@pytest.fixture(scope="module")
def account(simulator):
    return simulator.new_account(email="ann@example.com")


@pytest.fixture(scope="module")
def gateway(simulator, account):
    with gateways.start(simulator, workers="2") as running:
        gateways.import_account(running, account)
        assert gateways.ask(running).status == 200
        yield running


@pytest.fixture
def signed_in(gateway, simulator, account):
    """Gives the account new tokens, with a life of so many seconds; they are its auth.json's."""
    known = simulator.backend.accounts.by_id[account["tokens"]["account_id"]]

    def sign_in(lifetime=3600):
        known.revoked = False
        tokens = simulator.backend.accounts.issue(known, lifetime)
        gateways.import_account(gateway, {**account, "tokens": tokens})
        simulator.clear()
        return tokens

    return sign_in


def spend(simulator, refresh_token):
    """What a CLI does that has the same auth.json."""
    body = {"client_id": "app_EMoamEEZ73f0CkXaXp7hrann", "grant_type": "refresh_token", "refresh_token": refresh_token}
    request = urllib.request.Request(
        simulator.auth_url, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        assert answer.status == 200


def reused(simulator, sign_in, account):
    spend(simulator, sign_in(lifetime=-60)["refresh_token"])


def expired(simulator, sign_in, account):
    sign_in(lifetime=-60)
    simulator.expire_refresh_tokens()


def revoked(simulator, sign_in, account):
    sign_in(lifetime=-60)
    simulator.revoke(account["tokens"]["account_id"])


def terminated(simulator, sign_in, account):
    sign_in()
    simulator.revoke(account["tokens"]["account_id"])


STATES = [
    (reused, "refresh_failed", "refresh_token_reused"),
    (expired, "refresh_failed", "refresh_token_expired"),
    (revoked, "refresh_failed", "refresh_token_invalidated"),
    (terminated, "session_terminated", "Your authentication token has been invalidated."),
]


@pytest.mark.parametrize("happen, state, told", STATES, ids=[happen.__name__ for happen, _, _ in STATES])
def test_a_sign_in_that_has_ended(gateway, simulator, account, signed_in, happen, state, told):
    happen(simulator, signed_in, account)
    simulator.clear()
    for _ in range(4):
        exchange = gateways.ask(gateway)
        assert exchange.status == 503
        error = json.loads(exchange.received)["error"]
        assert (error["type"], error["code"]) == ("codex_upstream_unavailable", state)
        assert state in error["message"] and told in error["message"]
        assert "`floway codex login`" in error["message"] and "`floway codex import FILE`" in error["message"]
    assert len(simulator.requests) == 1  # only the first one finds out
    [shown] = gateways.status(gateway)
    assert shown["state"] == state and told in shown["state_message"] and shown["token_expires_at"] is None
    text = gateway.run("codex", "status").stdout
    assert state in text and told in text and "floway codex login" in text

    signed_in()
    assert gateways.ask(gateway).status == 200
    [shown] = gateways.status(gateway)
    assert (shown["state"], shown["state_message"]) == ("active", "")


def test_a_401_that_comes_with_every_token_is_the_accounts_and_not_the_clients(gateway, simulator, signed_in):
    signed_in()
    before = simulator.refreshes
    unauthorized = refusal(401, {"detail": "Unauthorized"})
    simulator.script(unauthorized, unauthorized)
    status, message = gateways.answer_of(gateways.ask(gateway))
    assert status == 503 and "your API key is valid" in message
    assert simulator.refreshes == before + 1
    [shown] = gateways.status(gateway)
    assert shown["state"] == "active"


def test_an_exhausted_quota_is_relayed_and_shown_until_the_backend_says_otherwise(
    gateway, simulator, account, signed_in
):
    signed_in()
    account_id = account["tokens"]["account_id"]
    simulator.use_up_quota(account_id, resets_in=7200)
    for asked in (1, 2):  # the gateway does not guess: it asks each time
        exchange = gateways.ask(gateway)
        body = json.loads(exchange.received)
        assert exchange.status == 429 and body["error"]["type"] == "usage_limit_reached"
        assert len(simulator.dispatches) == asked
    [shown] = gateways.status(gateway)
    [limit] = shown["limits"]
    assert limit["refused_until"] == body["error"]["resets_at"] and limit["primary"]["used_percent"] == 100
    assert "codex: refused until in 1 h 59 min" in gateway.run("codex", "status").stdout

    simulator.restore_quota(account_id)
    assert gateways.ask(gateway).status == 200
    [shown] = gateways.status(gateway)
    [limit] = shown["limits"]
    assert "refused_until" not in limit and limit["primary"]["used_percent"] == 12
    assert "codex primary: 12 % used, of 5 h, resets in" in gateway.run("codex", "status").stdout


def test_models_outlive_the_gateway_and_the_network(simulator, account, tmp_path):
    url = f"sqlite:///{tmp_path}/floway.db"
    with Simulator() as backend, gateways.on_database(backend, url) as first:
        gateways.import_account(first, backend.new_account())
        models = gateways.caller(first).get("/v1/models").json()
        assert models["data"]
    with gateways.on_database(backend, url) as second:  # the backend is gone
        assert gateways.caller(second).get("/v1/models").json() == models
        status, message = gateways.answer_of(gateways.ask(second))
        assert status == 502 and "cannot be reached" in message
        [shown] = gateways.status(second)
        assert shown["models_fetched_at"]


def test_a_backend_that_is_down_is_not_hammered(simulator):
    with Simulator() as backend:
        backend.expire_access_tokens()
        account = backend.new_account()
        backend.revoke(account["tokens"]["account_id"])
        with gateways.start(backend) as gateway:
            gateways.import_account(gateway, account)
            threads = [threading.Thread(target=gateways.ask, args=[gateway]) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(backend.requests) == 1
            assert "cannot be loaded: The Codex account is session_terminated" in gateway.log
