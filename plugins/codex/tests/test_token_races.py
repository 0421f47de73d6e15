"""Access tokens: many threads, processes and people that want to change them at the same time."""

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import peewee
import pytest
from floway_codex.account import accounts, credentials
from floway_codex.account.auth_file import import_account
from floway_codex.tables import Accounts, Credentials, Health, Tokens

from floway_core.errors import GatewayError, UpstreamTimeout
from floway_core.storage import upstreams
from floway_core.upstream import HttpClient

from .conftest import TOKEN_URL, auth_json, open_services, token
from .test_tokens import LEASE, PATIENCE, source, spends, tokens_of


@pytest.fixture
def expired(services):
    """An account whose access token has expired."""
    return import_account(services, auth_json(lifetime=-10))


def test_the_token_endpoint_gets_less_time_than_the_lease_lasts(services, expired, monkeypatch):
    """Otherwise somebody else would spend the refresh token, too, while the first one still waits for the answer."""
    given = []

    def silent(self, method, url, headers, body, timeout):
        given.append(timeout)
        raise UpstreamTimeout("The upstream did not answer in time.")

    monkeypatch.setattr(HttpClient, "fetch", silent)
    with pytest.raises(GatewayError, match="did not answer in time"):
        source(services, lease=20).access_token(expired.id)
    assert given == [5]  # for connecting, and for each read


def test_an_account_that_was_given_up_too_early_is_active_again(services, expired, network):
    """Another process found the refresh token spent, and could not know that this one had the answer on its way."""

    def answer(request):
        assert accounts.terminate(services, expired.id, accounts.REFRESH_FAILED, "refresh_token_reused", 1)
        return 200, {}, json.dumps({"access_token": token("second"), "refresh_token": "refresh-second"})

    network.add_callback("POST", TOKEN_URL, answer)
    assert source(services).access_token(expired.id).endswith(".second")
    account = accounts.require_active(services, expired.id)
    assert account.message == ""


@pytest.mark.parametrize("state", [accounts.SESSION_TERMINATED, accounts.SIGNED_OUT])
def test_a_refresh_does_not_undo_what_somebody_has_decided(services, expired, network, state):
    def answer(request):
        if state == accounts.SIGNED_OUT:
            accounts.sign_out(services, expired.id)
        else:
            accounts.terminate(services, expired.id, state, "", 1)
        return 200, {}, json.dumps({"access_token": token("second"), "refresh_token": "refresh-second"})

    network.add_callback("POST", TOKEN_URL, answer)
    renewing = source(services)
    with pytest.raises(GatewayError) if state == accounts.SIGNED_OUT else contextlib.nullcontext():
        renewing.access_token(expired.id)
    assert accounts.find_account(services, expired.id).state == state


def test_a_refresh_begun_before_a_new_sign_in_does_not_replace_it(services, expired, network):
    def answer(request):
        accounts.sign_out(services, expired.id)
        import_account(services, auth_json("imported"))
        return 200, {}, json.dumps({"access_token": token("late"), "refresh_token": "refresh-late"})

    network.add_callback("POST", TOKEN_URL, answer)
    assert source(services).access_token(expired.id).endswith(".access-imported")
    assert tokens_of(services, expired)[0] == "refresh-imported"


def test_fifty_requests_make_one_refresh(services, expired, network):
    network.post(TOKEN_URL, json={"access_token": token("second")}, match=spends("refresh-first"))
    renewing, together = source(services), threading.Barrier(50, timeout=60)

    def ask(_):
        together.wait(PATIENCE)
        return renewing.access_token(expired.id)

    with ThreadPoolExecutor(50) as pool:
        used = set(pool.map(ask, range(50)))
    assert len(network.calls) == 1 and used == {tokens_of(services, expired)[2]}


class Gate:
    """A lock that lets nobody in before ``parties`` threads stand at it."""

    def __init__(self, parties):
        self.lock, self.barrier = threading.Lock(), threading.Barrier(parties, timeout=60)

    def __enter__(self):
        self.barrier.wait(PATIENCE)
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()


def test_threads_that_waited_share_the_failure(services, expired, network):
    """Otherwise they would knock at a token endpoint that is down, one after the other."""
    network.post(TOKEN_URL, status=500)
    renewing = source(services)
    renewing._locks[expired.id] = Gate(8)
    with ThreadPoolExecutor(8) as pool:
        failures = [pool.submit(renewing.access_token, expired.id).exception for _ in range(8)]
        assert {failure(PATIENCE).code for failure in failures} == {"codex_refresh_unavailable"}
    assert len(network.calls) == 1


def test_an_upstream_is_removed_while_its_account_changes(tmp_path, database_url):
    """Nothing waits for ever, nothing fails, and nothing is left by halves."""
    services = open_services(tmp_path, FLOWAY_DATABASE_URL=database_url)
    tables = (Accounts, Credentials, Health, Tokens)
    for _ in range(25):
        added = import_account(services, auth_json())
        changes = [
            partial(upstreams.remove, services.database, added.name),
            partial(import_account, services, auth_json("second")),
            partial(accounts.terminate, services, added.id, accounts.REFRESH_FAILED, "refresh_token_reused", 1),
            partial(accounts.sign_out, services, added.id),
            partial(
                credentials.store_renewed_tokens, services, added.id, 1, "refresh-third", None, "access-third", 2**31
            ),
        ]
        start = threading.Barrier(len(changes), timeout=60)

        def make(change, start=start):
            start.wait()
            change()

        with ThreadPoolExecutor(len(changes)) as pool:
            list(pool.map(make, changes))
        with services.database.connection_context():
            left = [table.select().count(services.database) for table in tables]
            assert left[:3] in ([0] * 3, [1] * 3) and left[3] <= left[0]
        for row in upstreams.all_rows(services.database):
            upstreams.remove(services.database, row.name)
    services.database.close_all()


def test_another_process_waits_for_the_one_that_renews(tmp_path, network):
    """Two processes on one database: the second finds the lease taken, waits, and uses what the first one got."""
    first, second = open_services(tmp_path), open_services(tmp_path)
    upstream = import_account(first, auth_json(lifetime=-10))
    asked, waits, renewed = threading.Event(), threading.Event(), threading.Event()

    def answer(request):
        asked.set()
        assert waits.wait(PATIENCE)
        return 200, {}, json.dumps({"access_token": token("second"), "refresh_token": "refresh-second"})

    def sleep(_):
        waits.set()
        assert renewed.wait(PATIENCE)

    network.add_callback("POST", TOKEN_URL, answer)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(source(first).access_token, upstream.id)
        assert asked.wait(PATIENCE)
        two = pool.submit(source(second, sleep=sleep).access_token, upstream.id)
        used = one.result(PATIENCE)
        renewed.set()
        assert two.result(PATIENCE) == used
    assert len(network.calls) == 1 and tokens_of(second, upstream)[:2] == ("refresh-second", 2)
    first.database.close_all()
    second.database.close_all()


def test_a_process_that_died_is_not_waited_for_for_ever(services, expired, network):
    clock = [2_000_000_000.0]
    assert credentials.acquire_lease(services, expired.id, int(clock[0]), LEASE)
    network.post(TOKEN_URL, json={"access_token": token("second"), "expires_in": 10})

    def sleep(seconds):
        clock[0] += 30

    source(services, now=lambda: clock[0], sleep=sleep).access_token(expired.id)
    assert clock[0] == 2_000_000_000 + LEASE


def test_waiting_for_another_process_ends(services, expired):
    clock = [2_000_000_000.0]

    def sleep(seconds):  # somebody takes the lease anew all the time
        clock[0] += 10
        with services.database.connection_context():
            Credentials.update(lease_until=int(clock[0]) + 60).execute(services.database)

    assert credentials.acquire_lease(services, expired.id, int(clock[0]), LEASE)
    with pytest.raises(GatewayError, match="does not finish"):
        source(services, now=lambda: clock[0], sleep=sleep).access_token(expired.id)


def rotate(services, upstream, access, lifetime):
    """What a sibling does that had the refresh token at the same time (its lease had run out)."""
    version = credentials.read_refresh_token(services, upstream.id).version
    sealed = token(access, lifetime)
    until = int(time.time() + lifetime)
    assert credentials.store_renewed_tokens(services, upstream.id, version, "refresh-sibling", None, sealed, until)


@pytest.mark.parametrize("code, status", [("refresh_token_reused", 401), ("invalid_grant", 400)])
def test_a_sibling_that_was_faster_is_believed(services, expired, network, code, status):
    def answer(request):
        rotate(services, expired, "sibling", 3600)
        return status, {}, json.dumps({"error": {"code": code}})

    network.add_callback("POST", TOKEN_URL, answer)
    assert source(services).access_token(expired.id).endswith(".sibling")
    assert accounts.find_account(services, expired.id).state == "active"


def test_a_sibling_whose_token_is_stale_again_leaves_its_refresh_token(services, expired, network):
    def answer(request):
        rotate(services, expired, "sibling", 10)
        return 401, {}, json.dumps({"error": {"code": "refresh_token_reused"}})

    network.add_callback("POST", TOKEN_URL, answer, match=spends("refresh-first"))
    network.post(TOKEN_URL, json={"access_token": token("third")}, match=spends("refresh-sibling"))
    assert source(services).access_token(expired.id).endswith(".third")


def test_recovery_happens_once(services, expired, network):
    def answer(request):
        if b"refresh-first" in request.body:
            rotate(services, expired, "sibling", 10)
        return 401, {}, json.dumps({"error": {"code": "refresh_token_reused"}})

    network.add_callback("POST", TOKEN_URL, answer)
    with pytest.raises(GatewayError, match="refresh_failed"):
        source(services).access_token(expired.id)
    assert len(network.calls) == 2


def test_other_refusals_do_not_look_for_siblings(services, expired, network):
    def answer(request):
        rotate(services, expired, "sibling", 3600)
        return 403, {}, json.dumps({"error": {"code": "app_session_terminated"}})

    network.add_callback("POST", TOKEN_URL, answer)
    with pytest.raises(GatewayError) as failed:
        source(services).access_token(expired.id)
    # The credentials are new ones by now, so the refusal of the old ones does not end the account.
    assert failed.value.code == "codex_refresh_unavailable"
    assert accounts.find_account(services, expired.id).state == "active"


def test_an_import_in_the_middle_of_a_refresh_wins(services, expired, network):
    def answer(request):
        import_account(services, auth_json("imported"))
        return 200, {}, json.dumps({"access_token": token("late"), "refresh_token": "refresh-late"})

    network.add_callback("POST", TOKEN_URL, answer)
    assert source(services).access_token(expired.id).endswith(".access-imported")
    assert tokens_of(services, expired)[0] == "refresh-imported"


def test_a_new_refresh_token_is_stored_even_if_the_database_is_busy_at_first(services, expired, network, monkeypatch):
    network.post(TOKEN_URL, json={"access_token": token("second"), "refresh_token": "refresh-second"})
    replace, slept = credentials.store_renewed_tokens, []

    def busy(*arguments):
        if len(slept) < 3:
            raise peewee.OperationalError("database is locked")
        return replace(*arguments)

    monkeypatch.setattr(credentials, "store_renewed_tokens", busy)
    used = source(services, sleep=slept.append).access_token(expired.id)
    assert tokens_of(services, expired) == ("refresh-second", 2, used) and len(slept) == 3


def test_a_token_that_cannot_be_stored_is_not_used(services, expired, network, monkeypatch, caplog):
    network.post(TOKEN_URL, json={"access_token": token("second"), "refresh_token": "refresh-second"})

    def broken(*arguments):
        raise peewee.OperationalError("disk full")

    monkeypatch.setattr(credentials, "store_renewed_tokens", broken)
    with pytest.raises(GatewayError, match="could not be stored"):
        source(services, sleep=lambda _: None).access_token(expired.id)
    assert "could not be stored" in caplog.text and "refresh-second" not in caplog.text
