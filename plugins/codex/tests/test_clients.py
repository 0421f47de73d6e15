"""The clients of an account: the gateway's own requests speak for them, and the operator sees them."""

import pytest
from floway_codex.account import clients
from floway_codex.account.auth_file import import_account
from floway_codex.simulator import Simulator, refusal
from floway_codex.wire.profile import choose_profile, load_profiles

from floway_core.testing import Installation

from . import gateways
from .conftest import auth_json, open_services
from .gateways import Front

NEWEST = list(load_profiles())[-1]


def cli(version, originator="codex-tui"):
    agent = f"{originator}/{version} (Mac OS 26.5.0; arm64) iTerm.app/3.6.10 ({originator}; {version})"
    return {"originator": originator, "user-agent": agent}


@pytest.fixture
def front(backend: Simulator):
    with gateways.start(backend) as gateway:
        gateways.import_account(gateway, backend.new_account())
        yield Front(backend, gateway)


def own_requests(front: Front, path: str):
    return [one for one in front.simulator.requests if path in one.path]


def agents(front: Front, path: str):
    return [(one.header("originator"), one.header("user-agent")) for one in own_requests(front, path)]


def test_own_requests_are_those_of_the_cli_that_uses_the_account(front):
    front.ask(cli("0.169.0"))
    front.simulator.clear()
    front.simulator.expire_access_tokens()
    front.ask(cli("0.169.0"))
    expected = [(cli("0.169.0")["originator"], cli("0.169.0")["user-agent"])]
    assert agents(front, "/oauth/token") == expected
    assert list(own_requests(front, "/oauth/token")[0].body) == [
        "client_id",
        "grant_type",
        "refresh_reason",
        "refresh_token",
    ]
    assert front.gateway.run("upstreams", "test", "codex-user@example.com").returncode == 0
    assert agents(front, "/codex/models") == expected
    (sent,) = own_requests(front, "/codex/models")
    assert sent.path.endswith("?client_version=0.169.0") and sent.header("version") == "0.169.0"


def test_the_newest_of_an_accounts_clients_counts(front):
    front.ask(cli("0.142.0"))
    front.ask()
    front.simulator.clear()
    front.simulator.expire_access_tokens()
    front.ask(cli("0.142.0"))
    turn = front.simulator.dispatches[-1]
    assert turn.header("version") == "0.142.0"
    ((originator, agent),) = agents(front, "/oauth/token")
    assert originator == "codex_exec" and agent.startswith(f"codex_exec/{NEWEST} (")


def test_a_version_that_is_newer_than_any_profile_is_told(front):
    front.ask(cli("0.999.1"))
    front.ask()
    [account] = gateways.status(front.gateway)
    assert account["versions_without_profile"] == ["0.999.1"]
    assert [(one["version"], one["is_cli"]) for one in account["clients"]] == [("0.999.1", True), (NEWEST, False)]
    shown = " ".join(front.gateway.run("codex", "status").stdout.split())
    assert "client codex-tui 0.999.1, less than a minute ago" in shown
    assert "0.999.1 is newer than any profile" in shown and "floway codex profile make" in shown
    assert f"other clients, as codex_exec {NEWEST}" in shown


def test_it_is_told_even_if_the_backend_refuses_its_requests(front):
    front.simulator.script(refusal(400, {"detail": "Unsupported"}))
    assert front.send({"input": "Hi"}, cli("0.999.1")).status == 400
    assert gateways.status(front.gateway)[0]["versions_without_profile"] == ["0.999.1"]


def test_only_the_newest_versions_and_the_last_week_stay(services, upstream):
    now = 1_000_000.0
    log = clients.ClientLog(services, choose_profile("newest"), now=lambda: now)
    for number in range(40):
        log.note(upstream.id, f"0.{number}.0", "codex_exec", f"codex_exec/0.{number}.0 (a; b) c", is_cli=True)
    log.note(upstream.id, "9" * 50, "codex_exec", "codex_exec/9 (a; b) c", is_cli=True)
    kept = [one.version for one in clients.read_clients(services, upstream.id, 0)]
    assert kept == [f"0.{number}.0" for number in range(39, 39 - clients.MAX_CLIENTS, -1)]
    assert log.profile_for(upstream.id).version == "0.39.0"
    now += clients.CURRENT_SECONDS + 1
    assert log.profile_for(upstream.id) == log.default
    log.note(upstream.id, "0.1.0", "codex_exec", "codex_exec/0.1.0 (a; b) c", is_cli=True)
    assert [one.version for one in clients.read_clients(services, upstream.id, 0)] == ["0.1.0"]


def test_clients_are_stored_in_both_databases(tmp_path, database_url):
    services = open_services(tmp_path, FLOWAY_DATABASE_URL=database_url)
    upstream = import_account(services, auth_json())
    for _ in range(2):  # as two processes
        log = clients.ClientLog(services, choose_profile("newest"))
        log.note(upstream.id, "0.170.0", "codex-tui", "codex-tui/0.170.0 (a; b) c (codex-tui; 0.170.0)", is_cli=True)
        log.note(upstream.id, NEWEST, "codex_exec", f"codex_exec/{NEWEST} (a; b) c", is_cli=False)
        found = [(one.version, one.is_cli) for one in clients.read_clients(services, upstream.id, 0)]
        assert found == [(NEWEST, False), ("0.170.0", True)]
    services.database.close_all()


def test_a_client_that_cannot_be_stored_fails_no_request(front):
    gateways.run_sql(f"sqlite:///{front.gateway.database}", "ALTER TABLE codex_clients RENAME TO elsewhere")
    assert front.ask()["status"] == "completed"
    assert "could not be stored" in front.gateway.log


def test_the_command_lists_the_profiles():
    with Installation(installed=["codex"]) as installation:
        assert installation.run("codex", "profile", "list").stdout.split() == list(load_profiles())
