"""Every promise about access tokens, through a running gateway: scripted token endpoint, simulated backend.

Rows are named as in the table of ``test_acceptance.py``.
"""

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from floway_codex.simulator import Simulator
from floway_codex.simulator.accounts import unsigned_jwt

from floway_core.testing import FakeUpstream, Reply, RunningGateway, Step

from . import gateways

PATIENCE = 60
JSON = [("content-type", "application/json")]


def answered(status, body, *before):
    return Reply([json.dumps(body).encode()], status, JSON, "length", before)


class Account:
    """The account behind the gateway, and the clock of its access token."""

    def __init__(self, simulator, endpoint, gateway):
        self.simulator, self.endpoint, self.gateway = simulator, endpoint, gateway
        self.auth = simulator.new_account("ann@example.com")
        self.request_id = ""
        """That of the latest request."""
        self.static_values = simulator.backend.accounts.by_id[self.auth["tokens"]["account_id"]]

    def sign_in(self):
        """New tokens by an import; they are returned."""
        tokens = self.new_tokens()
        gateways.import_account(
            self.gateway, {**self.auth, "tokens": {**tokens, "account_id": self.static_values.account_id}}
        )
        return tokens

    def new_tokens(self, lifetime=3600):
        return self.simulator.backend.accounts.issue(self.static_values, lifetime)

    def sql(self, statement):
        return gateways.run_sql(f"sqlite:///{self.gateway.database}", statement)

    def expire(self, seconds=-60):
        """The stored access token expires in so many seconds."""
        self.sql(f"UPDATE codex_tokens SET expires_at = {int(time.time() + seconds)}")

    @property
    def state(self):
        ((state, message),) = self.sql("SELECT state, message FROM codex_health")
        return state, message

    def ask(self):
        """Status, and the text or the error."""
        exchange = gateways.ask(self.gateway)
        self.request_id = exchange.headers["x-request-id"]
        body = json.loads(exchange.received)
        return exchange.status, body.get("error") or body["output"][0]["content"][0]["text"]

    def spent(self):
        """The refresh tokens that came to the endpoint."""
        return [json.loads(request.body)["refresh_token"] for request in self.endpoint.requests]


@contextlib.contextmanager
def signed_in(**settings):
    """The account behind a gateway of its own."""
    with Simulator() as simulator, FakeUpstream() as endpoint:
        urls = {"codex_base_url": simulator.base_url, "codex_auth_url": f"{endpoint.url}/oauth/token"}
        urls["codex_transport"] = "http"
        with RunningGateway({**urls, **settings}, installed=["codex"]) as gateway:
            account = Account(simulator, endpoint, gateway)
            account.sign_in()
            assert account.ask()[0] == 200
            yield account
            assert "Traceback" not in gateway.log


@pytest.fixture(scope="module")
def running():
    with signed_in() as account:
        yield account


@pytest.fixture
def account(running):
    """Signed in, with nothing recorded."""
    running.endpoint.forget()
    running.simulator.clear()
    if running.sql("SELECT count(*) FROM codex_tokens") == [(0,)] or running.state[0] != "active":
        running.sign_in()
    running.expire(3600)
    return running


@pytest.fixture
def hasty_account():
    """The account behind a gateway that waits only a moment for a locked database."""
    with signed_in(database_timeout="0.1") as account:
        yield account


# ---------------------------------------------------------------------------------------------------------- when
@pytest.mark.parametrize("row, left, renewed", [
    ("AT-4, AT-12, TX-4 outside the five minutes", 330, False), ("AT-3, AT-14 inside", 270, True),
    ("TX-3 expired", -60, True), ("AT-2, AT-13 none at all", None, True),
])  # fmt: skip
def test_when_a_token_is_renewed(account, row, left, renewed):
    """AT-6: the new one is used from then on."""
    if left is None:
        account.sql("DELETE FROM codex_tokens")
    else:
        account.expire(left)
    new = account.new_tokens()
    account.endpoint.script(answered(200, {**new, "expires_in": 3600}))
    assert [account.ask()[0] for _ in range(2)] == [200, 200]
    assert len(account.endpoint.requests) == renewed
    used = {request.header("authorization") for request in account.simulator.dispatches}
    assert len(used) == 1 and (f"Bearer {new['access_token']}" in used) == renewed


def test_a_list_of_models_needs_a_token_too(account):
    """PR-2, PR-3: the one that is fresh, or a new one."""
    ((name,),) = account.sql("SELECT name FROM upstreams")
    for expired in (False, True):
        account.simulator.clear()
        if expired:
            account.sql("DELETE FROM codex_tokens")
            account.endpoint.script(answered(200, account.new_tokens()))
        assert account.gateway.run("upstreams", "test", name).returncode == 0
        assert len(account.endpoint.requests) == expired
        assert [request.answered for request in account.simulator.requests] == ["200 models"]


# row: what the endpoint answers, apart from the access token
PARTIAL = {
    "all": {"refresh_token": "r2", "id_token": unsigned_jwt({}), "expires_in": 3600},
    "no refresh token": {"id_token": unsigned_jwt({}), "expires_in": 3600},
    "no id token": {"refresh_token": "r2", "expires_in": 3600},
    "no lifetime": {"refresh_token": "r2"},
    "nothing else": {},
    "of wrong types": {"refresh_token": 5, "id_token": None, "expires_in": "soon"},
}


@pytest.mark.parametrize("row", PARTIAL)
def test_what_the_endpoint_leaves_out_is_kept(account, row):
    """X-4, OA-4: the next renewal shows which refresh token is stored; the lifetime is that of the token itself."""
    given = {**PARTIAL[row]}
    if given.get("refresh_token") == "r2":
        given["refresh_token"] = f"r2 of {row}"
    for _ in range(2):
        account.expire()
        access = {"access_token": account.new_tokens(lifetime=7200)["access_token"]}
        account.endpoint.script(answered(200, {**access, **given}))
        assert account.ask()[0] == 200
    before, after = account.spent()
    assert after == (f"r2 of {row}" if "r2" in PARTIAL[row].values() else before) and f"r2 of {row}" != before
    ((expires_at,),) = account.sql("SELECT expires_at FROM codex_tokens")
    assert expires_at == pytest.approx(time.time() + 7200, abs=30)
    sent = json.loads(account.endpoint.requests[0].body)
    assert sent["grant_type"] == "refresh_token" and sent["client_id"].startswith("app_")


# ---------------------------------------------------------------------------------------------------------- refusals
# row: the endpoint's answer, and what the account's message says
FINAL = {
    "AT-20, TX-5, OA-5": (403, {"error": {"code": "app_session_terminated"}}, "app_session_terminated"),
    "AT-19, OA-6": (400, {"error": "invalid_grant", "error_description": "No."}, "invalid_grant: No"),
    "X-3 on top": (401, {"code": "refresh_token_reused", "message": "Used."}, "refresh_token_reused: Used"),
    "X-3 inside": (401, {"error": {"code": "refresh_token_reused"}}, "refresh_token_reused"),
    "X-3 expired": (401, {"code": "refresh_token_expired"}, "refresh_token_expired"),
    "X-3 invalidated": (401, {"error": {"code": "refresh_token_invalidated"}}, "refresh_token_invalidated"),
    "invalid_client": (400, {"error": "invalid_client"}, "invalid_client"),
    "unauthorized_client": (400, {"error": "unauthorized_client"}, "unauthorized_client"),
    "access_denied": (400, {"error": "access_denied"}, "access_denied"),
    "any 401": (401, {"detail": "Unauthorized"}, "Unauthorized"),
}  # fmt: skip


@pytest.mark.parametrize("row", FINAL)
def test_a_refusal_for_good_ends_the_account(account, row):
    """TX-1, TX-29, TX-31: the endpoint is asked once, the backend never, as the log says; a new sign-in heals."""
    status, body, message = FINAL[row]
    account.expire()
    account.endpoint.script(answered(status, body))
    for _ in range(2):
        told, error = account.ask()
        assert (told, error["type"], error["code"]) == (503, "codex_upstream_unavailable", "refresh_failed")
        assert message in error["message"] and "`floway codex import FILE`" in error["message"]
    assert len(account.endpoint.requests) == 1 and account.simulator.dispatches == []
    (line,) = account.gateway.wait_for_log(account.request_id)
    assert "POST /v1/responses 503" in line and "attempts=1 dispatches=0" in line
    assert account.state[0] == "refresh_failed" and message in account.state[1]
    account.sign_in()  # PR-8
    assert account.ask()[0] == 200 and account.state == ("active", "")


TEMPORARY = {
    "500": answered(500, {"error": {"code": "server_error"}}), "a page": Reply([b"<html>"], 503, framing="length"),
    "429": answered(429, {"error": {"code": "slow_down"}}), "an odd 400": answered(400, {"error": "temporarily"}),
    "no token in it": answered(200, {"token_type": "Bearer"}), "no JSON": Reply([b"["], 200, JSON, "length"),
    "a list": answered(200, []), "no answer": Reply(before=[Step.RESET]),
}  # fmt: skip


@pytest.mark.parametrize("row", TEMPORARY)
def test_an_endpoint_out_of_order_changes_nothing(account, row):
    """AT-17, PR-5, OA-3: the next request tries again, with the same refresh token."""
    account.expire()
    account.endpoint.script(TEMPORARY[row])
    told, error = account.ask()
    assert (told, error["code"]) == (503, "codex_refresh_unavailable") and account.state == ("active", "")
    account.endpoint.script(answered(200, account.new_tokens()))
    assert account.ask()[0] == 200 and len(set(account.spent())) == 1
    assert account.simulator.dispatches[0].header("authorization")


# ------------------------------------------------------------------------------------------------------------- races
@contextlib.contextmanager
def held_renewal(account, reply):
    """A request waits for the token endpoint while the block runs; then it is answered with ``reply``."""
    account.expire()
    account.endpoint.script(reply)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(account.ask)
        account.endpoint.wait_for_request()
        done = []
        yield done
        account.endpoint.release.set()
        done.append(asked.result(PATIENCE))


@pytest.mark.parametrize("row, status, body", [
    ("AT-18", 400, {"error": "invalid_grant"}), ("X-3", 401, {"code": "refresh_token_reused"})
])  # fmt: skip
def test_a_sibling_that_was_faster_is_believed(account, row, status, body):
    """The request goes on with its token, and nothing is written."""
    with held_renewal(account, answered(status, body, Step.HOLD)) as done:
        siblings = account.sign_in()
    assert done[0][0] == 200 and account.state == ("active", "") and len(account.endpoint.requests) == 1
    assert account.simulator.dispatches[0].header("authorization") == f"Bearer {siblings['access_token']}"


def test_a_session_that_has_ended_is_no_race(account):
    """AT-20: what has been signed in meanwhile stays."""
    with held_renewal(account, answered(403, {"error": "app_session_terminated"}, Step.HOLD)) as done:
        account.sign_in()
    assert done[0][0] == 503 and len(account.endpoint.requests) == 1 and account.state == ("active", "")
    assert account.ask()[0] == 200


def test_an_upstream_that_is_removed_meanwhile(account):
    """AT-1, AT-5, AT-8, AT-9, AT-15, AT-16: the request fails, later ones find no model, and nothing is left."""
    ((name,),) = account.sql("SELECT name FROM upstreams")
    with held_renewal(account, answered(200, account.new_tokens(), Step.HOLD)) as done:
        removed = account.gateway.run("upstreams", "remove", name, "--yes")
        assert removed.returncode == 0, removed.stderr
    assert done[0][0] in (404, 503) and account.simulator.dispatches == []
    assert account.ask()[0] == 404 and account.sql("SELECT count(*) FROM codex_credentials") == [(0,)]
    account.sign_in()
    assert account.ask()[0] == 200


def test_new_tokens_are_stored_before_they_are_used(hasty_account):
    """X-2, AT-7: the write is tried again, and meanwhile the backend sees nothing."""
    account = hasty_account
    account.simulator.clear()
    new = account.new_tokens()
    before = len(account.gateway.log)
    with held_renewal(account, answered(200, new, Step.HOLD)) as done:
        busy = sqlite3.connect(account.gateway.database, isolation_level=None)
        busy.execute("BEGIN IMMEDIATE")
        account.endpoint.release.set()
        account.gateway.wait_for_log("could not be stored", before)
        assert account.simulator.dispatches == []
        busy.execute("ROLLBACK")
        busy.close()
    assert done[0][0] == 200
    account.expire()
    account.endpoint.script(answered(200, account.new_tokens()))
    assert account.ask()[0] == 200 and account.spent()[1] == new["refresh_token"]


def test_a_lease_that_cannot_be_released_fails_no_request(account):
    """That is logged. The next renewal waits until the lease has expired."""
    fails = "BEFORE UPDATE OF lease_owner ON codex_credentials WHEN NEW.lease_owner IS NULL"
    account.sql(f"CREATE TRIGGER full {fails} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END")
    before = len(account.gateway.log)
    try:
        account.expire()
        account.endpoint.script(answered(200, account.new_tokens()))
        assert account.ask()[0] == 200
    finally:
        account.sql("DROP TRIGGER full")
        account.sql("UPDATE codex_credentials SET lease_owner = NULL")
    account.gateway.wait_for_log("could not be released, and expires: the disk is full", before)


def test_fifty_requests_renew_once(account):
    """X-1, AT-10, AT-11"""
    account.expire()
    account.endpoint.script(answered(200, account.new_tokens(), Step.HOLD))
    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(account.ask) for _ in range(50)]
        account.endpoint.wait_for_request()
        account.endpoint.release.set()
        answers = [one.result(PATIENCE) for one in asked]
        assert [answer for answer in answers if answer[0] != 200] == []
    assert len(account.endpoint.requests) == 1
    assert len({request.header("authorization") for request in account.simulator.dispatches}) == 1


# --------------------------------------------------------------------------------------------- a process that is killed
def kill_while_it_waits(account):
    """Kill the worker after it has sent the refresh token, and before it has the answer."""
    account.expire()
    account.endpoint.script(answered(200, account.new_tokens(), Step.HOLD))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(account.ask)
        account.endpoint.wait_for_request()
        parent = account.gateway.process.pid
        (worker,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        os.kill(int(worker), signal.SIGKILL)
        with pytest.raises((OSError, http.client.HTTPException)):
            waiting.result()
    account.endpoint.forget()
    # What the lease would wait for: the process that renews has ended, and cannot say so.
    account.sql(f"UPDATE codex_credentials SET lease_until = {int(time.time()) - 1}")


def test_a_renewal_that_was_killed_is_told(account):
    """Whether the token is lost shows at the next renewal; then the way out is told, too."""
    kill_while_it_waits(account)
    status = account.gateway.run("codex", "status")
    assert "A process was killed while it renewed the token" in status.stdout
    assert json.loads(account.gateway.run("codex", "status", "--json").stdout)[0]["renewal_interrupted"] is True
    account.endpoint.script(answered(400, {"error": {"code": "refresh_token_reused", "message": "Used already."}}))
    assert account.ask()[0] == 503
    assert account.state[0] == "refresh_failed" and "the new token is lost" in account.state[1]
    status = account.gateway.run("codex", "status").stdout
    assert "was killed between the answer of the token endpoint and its storage" in status
    assert "floway codex login" in status and "renewal" not in status
    account.sign_in()
    assert account.ask()[0] == 200


def test_a_renewal_that_was_killed_before_it_reached_the_endpoint_is_made_up_for(account):
    kill_while_it_waits(account)
    account.endpoint.script(answered(200, account.new_tokens()))
    assert account.ask()[0] == 200
    assert account.state == ("active", "")
    assert "killed" not in account.gateway.run("codex", "status").stdout
