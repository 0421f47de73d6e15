"""The usage of an account that has had no turn yet: in ``floway codex status``, and in the metrics."""

import json
import time

import pytest
from floway_codex.account import quota, usage
from floway_codex.simulator import Simulator
from floway_codex.wire.profile import load_profiles

from floway_core.testing import ApiClient, Installation

from . import gateways, recordings


@pytest.fixture
def installation(backend: Simulator):
    with Installation(gateways.settings(backend), installed=["codex"]) as made:
        yield made


def asked(backend: Simulator):
    return [one for one in backend.requests if one.path == "/backend-api/wham/usage"]


def test_status_shows_what_the_backend_says_now(backend, installation):
    account = backend.new_account()
    gateways.import_account(installation, account)
    [before] = json.loads(installation.run("codex", "status", "--json", "--offline").stdout)
    assert before["limits"] == [] and asked(backend) == []
    [shown] = gateways.status(installation)
    (limit,) = shown["limits"]
    assert limit["primary"]["used_percent"] == 12 and limit["primary"]["window_minutes"] == 300
    assert limit["secondary"]["used_percent"] == 40 and "refused_until" not in limit
    backend.use_up_quota(account["tokens"]["account_id"], resets_in=7200)
    assert "codex primary: 100 % used, of 5 h, resets in" in installation.run("codex", "status").stdout
    assert "codex: refused until in 1 h 59 min" in installation.run("codex", "status", "--offline").stdout


def test_the_request_is_one_of_the_cli(backend, installation):
    gateways.import_account(installation, backend.new_account())
    gateways.status(installation)
    (request,) = asked(backend)
    newest = list(load_profiles())[-1]
    orders = [[name for name, _ in one["headers"]] for one in recordings.own_requests(newest, "models")]
    assert [name for name, _ in request.headers] in orders and request.header("version") == newest


def test_headers_and_usage_say_the_same(backend, installation):
    """So a report of one replaces that of the other."""
    with gateways.start(backend) as gateway:
        gateways.import_account(gateway, backend.new_account())
        gateways.ask(gateway)
        [by_headers] = json.loads(gateway.run("codex", "status", "--json", "--offline").stdout)
        gateways.run_sql(f"sqlite:///{gateway.database}", "DELETE FROM codex_quota")
        [by_usage] = gateways.status(gateway)
    for one in (by_headers, by_usage):
        one["limits"][0].pop("fetched_at")
    assert quota.are_alike(by_headers["limits"][0], by_usage["limits"][0])


@pytest.mark.parametrize("state", ["expired", "signed out", "unreachable"])
def test_without_an_answer_status_shows_the_last_report(backend, installation, state):
    account = backend.new_account(access_lifetime=-5 if state == "expired" else 3600)
    gateways.import_account(installation, account, "--name", "work")
    if state == "signed out":
        assert installation.run("codex", "logout", "work").returncode == 0
    if state == "unreachable":
        backend.stop()
    [shown] = gateways.status(installation)
    assert shown["limits"] == [] and asked(backend) == [] and backend.refreshes == 0


def test_a_scrape_has_the_usage_of_accounts_without_turns_read(backend):
    with gateways.start(backend, metrics="open") as gateway:
        gateways.import_account(gateway, backend.new_account(access_lifetime=-5), "--name", "work")
        caller = gateways.caller(gateway)
        assert caller.get("/metrics").status == 200
        backend.wait_for_requests(2)  # a renewal of the token, and the usage
        deadline = time.monotonic() + 60
        while "floway_codex_quota_used_percent{" not in (text := caller.get("/metrics").body.decode()):
            assert time.monotonic() < deadline, text
        caller.get("/metrics")
    assert len(asked(backend)) == 1 and backend.refreshes == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"rate_limit": null}',
        b'{"rate_limit": {"primary_window": {"used_percent": "x"}}}',
    ],
)
def test_an_answer_that_says_nothing_changes_nothing(content):
    assert usage.parse_usage(content, 0.0) == []


def test_further_limits_are_those_of_their_feature():
    window = {"used_percent": 7, "limit_window_seconds": 3600, "reset_after_seconds": 60}
    limit = {"allowed": True, "limit_reached": False, "primary_window": window, "secondary_window": None}
    more = [{"limit_name": "Spark", "metered_feature": "codex-spark", "rate_limit": limit}, {"rate_limit": 1}, None]
    payload = {"plan_type": "pro", "rate_limit": limit, "additional_rate_limits": more}
    first, second = usage.parse_usage(json.dumps(payload).encode(), 1000.0)
    parsed = {"used_percent": 7, "window_minutes": 60, "resets_at": 1060}
    assert first == {"limit": "codex", "plan": "pro", "primary": parsed}
    assert second == {"limit": "codex_spark", "name": "Spark", "primary": parsed}


@pytest.mark.parametrize("path", ["/backend-api/wham/usage", "/wham/usage"])
def test_a_cli_may_ask_for_it_if_its_key_shows_the_account(backend, path):
    """So its /status shows the limits of the account."""
    with gateways.start(backend) as gateway:
        account = backend.new_account()
        gateways.import_account(gateway, account)
        shown = gateway.run("keys", "create", "shown", "--shows-account").stdout.strip()
        answer = ApiClient(gateway.url, shown).get(path)
        assert answer.status == 200 and usage.parse_usage(answer.body, time.time())[0]["primary"]["used_percent"] == 12
        (request,) = asked(backend)
        assert request.header("authorization") == f"Bearer {account['tokens']['access_token']}"
        refused = ApiClient(gateway.url, gateway.key).get(path)
        assert refused.status == 403 and refused.json()["error"]["code"] == "account_hidden"
        assert len(asked(backend)) == 1
