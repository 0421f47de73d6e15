"""Access tokens: when they are renewed, by whom, and what a refusal of the token endpoint means."""

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import peewee
import pytest
import requests
from floway_codex import accounts, credentials, oauth, profile, tokens
from floway_codex.importing import import_account
from floway_codex.tables import Credentials, Tokens
from floway_codex.tokens import TokenSource
from responses.matchers import json_params_matcher

from floway_core.errors import GatewayError
from floway_core.upstream import HttpClient

from .conftest import TOKEN_URL, auth_json, id_token, open_services, token

PATIENCE = 20.0
LEASE = 120


def source(services, **options) -> TokenSource:
    settings = services.settings.plugin
    shape = profile.shipped()[settings["codex_profile"]]
    options = {"lease": LEASE, **options}
    return TokenSource(services, HttpClient(services.settings), settings["codex_auth_url"], shape, **options)


@pytest.fixture
def expired(services):
    """An account whose access token has expired."""
    return import_account(services, auth_json(lifetime=-10))


def spends(refresh_token):
    """Matches the request that spends this refresh token."""
    return [
        json_params_matcher(
            {"client_id": "app_EMoamEEZ73f0CkXaXp7hrann", "grant_type": "refresh_token", "refresh_token": refresh_token}
        )
    ]


def tokens_of(services, upstream):
    refresh = credentials.read_refresh_token(services, upstream.id)
    access = credentials.read_access_token(services, upstream.id)
    return refresh.value, refresh.version, access and access.value


def lease_of(services, upstream):
    with services.database.connection_context():
        return (
            Credentials.select(Credentials.lease_owner)
            .where(Credentials.upstream_id == upstream.id)
            .scalar(services.database)
        )


# ---------------------------------------------------------------------------------------------------------- renewing
def test_a_fresh_token_is_used_without_asking(services, upstream, network):
    assert source(services).access_token(upstream.id).endswith(".access-first")
    assert len(network.calls) == 0


@pytest.mark.parametrize("left, renewed", [(tokens.FRESH_FOR + 5, False), (tokens.FRESH_FOR - 5, True), (-5, True)])
def test_a_token_is_renewed_five_minutes_before_it_expires(services, network, left, renewed):
    upstream = import_account(services, auth_json(lifetime=left))
    network.post(TOKEN_URL, json={"access_token": token("second"), "refresh_token": "refresh-second"})
    assert source(services).access_token(upstream.id).endswith(".second" if renewed else ".access-first")


def test_a_token_of_unknown_age_is_renewed_first(services, network):
    upstream = import_account(services, auth_json(lifetime=None))
    network.post(TOKEN_URL, json={"access_token": token("second")})
    assert source(services).access_token(upstream.id).endswith(".second")


def test_all_new_tokens_are_stored_sealed(services, expired, network):
    new = {"access_token": token("second"), "refresh_token": "refresh-second", "id_token": id_token(plan="pro")}
    network.post(TOKEN_URL, json=new, match=spends("refresh-first"))
    used = source(services).access_token(expired.id)
    assert tokens_of(services, expired) == ("refresh-second", 2, used)
    assert lease_of(services, expired) is None
    with services.database.connection_context():
        row = Credentials.select().dicts().execute(services.database)[0]
        sealed = Tokens.select(Tokens.access_token).scalar(services.database)
    assert services.secrets.open(row["id_token"]) == new["id_token"]
    assert "refresh-second" not in row["refresh_token"] and used not in sealed


def test_what_the_answer_leaves_out_is_kept(services, expired, network):
    network.post(TOKEN_URL, json={"access_token": token("second", 7200)})
    used = source(services).access_token(expired.id)
    assert tokens_of(services, expired) == ("refresh-first", 2, used)
    assert credentials.read_access_token(services, expired.id).expires_at == pytest.approx(time.time() + 7200, abs=5)


@pytest.mark.parametrize(
    "answer, lifetime",
    [({"expires_in": 900}, 900), ({}, tokens.UNKNOWN_LIFETIME), ({"expires_in": "soon"}, tokens.UNKNOWN_LIFETIME)],
)
def test_the_lifetime_of_an_opaque_token(services, expired, network, answer, lifetime):
    network.post(TOKEN_URL, json={"access_token": "opaque", **answer})
    source(services, now=lambda: 2_000_000_000.5).access_token(expired.id)
    assert credentials.read_access_token(services, expired.id).expires_at == 2_000_000_000 + lifetime


def test_a_refused_token_is_only_discarded_while_it_is_the_stored_one(services, upstream):
    stored = source(services)
    assert not stored.discard(upstream.id, "an older one")
    assert stored.access_token(upstream.id).endswith(".access-first")
    assert stored.discard(upstream.id, stored.access_token(upstream.id))
    assert credentials.read_access_token(services, upstream.id) is None
    assert not stored.discard(upstream.id, "anything")


# ----------------------------------------------------------------------------------------------------------- refusals
REFUSALS = [
    (401, {"error": {"code": "refresh_token_expired", "message": "Expired."}}, "refresh_token_expired: Expired."),
    (401, {"code": "refresh_token_invalidated"}, "refresh_token_invalidated"),
    (401, {"error": {"code": "refresh_token_reused", "message": "Used."}}, "refresh_token_reused: Used."),
    (400, {"error": "invalid_grant", "error_description": "No."}, "invalid_grant: No."),
    (400, {"error": "invalid_client"}, "invalid_client"),
    (403, {"error": {"code": "app_session_terminated", "message": "Bye."}}, "app_session_terminated: Bye."),
    (400, {"error": "unauthorized_client"}, "unauthorized_client"),
    (400, {"error": "access_denied"}, "access_denied"),
    (401, {"detail": "Unauthorized"}, "unauthorized: Unauthorized"),
]


@pytest.mark.parametrize("status, body, message", REFUSALS)
def test_a_refusal_for_good_ends_the_account_until_it_is_imported(services, expired, network, status, body, message):
    network.post(TOKEN_URL, status=status, json=body)
    for _ in range(2):  # the second time without asking
        with pytest.raises(GatewayError, match="floway codex import FILE") as refused:
            source(services).access_token(expired.id)
        assert (refused.value.status, refused.value.code) == (503, "refresh_failed")
        assert refused.value.type == "codex_upstream_unavailable"
    assert len(network.calls) == 1
    account = accounts.find(services, expired.id)
    assert (account.state, account.message) == ("refresh_failed", message)
    assert credentials.read_access_token(services, expired.id) is None and lease_of(services, expired) is None

    import_account(services, auth_json("again"))
    assert source(services).access_token(expired.id).endswith(".access-again")


def test_a_refusal_that_quotes_the_token_is_not_shown(services, expired, network):
    network.post(TOKEN_URL, status=401, json={"error": {"code": "x", "message": "refresh-first is bad"}})
    with pytest.raises(GatewayError) as refused:
        source(services).access_token(expired.id)
    assert "refresh-first" not in refused.value.message
    assert "refresh-first" not in accounts.find(services, expired.id).message


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500, "json": {"error": {"code": "server_error"}}},
        {"status": 503, "body": "<html>"},
        {"status": 429, "json": {}},
        {"status": 403, "body": "<html>challenge</html>"},
        {"status": 400, "json": ["strange"]},
        {"status": 200, "body": "not json"},
        {"status": 200, "json": {"refresh_token": "x"}},
        {"body": requests.ConnectionError()},
        {"body": requests.Timeout()},
    ],
)
def test_a_token_endpoint_out_of_order_is_a_503_and_changes_nothing(services, expired, network, answer):
    before = tokens_of(services, expired)
    failing = network.post(TOKEN_URL, **answer)
    renewing = source(services)
    with pytest.raises(GatewayError) as failed:
        renewing.access_token(expired.id)
    assert (failed.value.status, failed.value.code) == (503, "codex_refresh_unavailable")
    assert tokens_of(services, expired) == before and lease_of(services, expired) is None
    assert accounts.find(services, expired.id).state == "active"

    network.remove(failing)
    network.post(TOKEN_URL, json={"access_token": token("second")})
    assert renewing.access_token(expired.id).endswith(".second")


def test_tokens_sealed_with_another_key_are_a_clear_503(tmp_path, services, upstream):
    from dataclasses import replace

    from floway_core.secrets import SecretBox

    with pytest.raises(GatewayError, match="FLOWAY_SECRET_KEY") as failed:
        source(replace(services, secrets=SecretBox("another"))).access_token(upstream.id)
    assert failed.value.status == 503


def test_the_token_endpoint_gets_less_time_than_the_lease_lasts(services, expired, network):
    """Otherwise somebody else would spend the refresh token, too, while the first one still waits for the answer."""
    network.post(TOKEN_URL, json={"access_token": token("second")})
    source(services, lease=20).access_token(expired.id)
    assert network.calls[0].request.req_kwargs["timeout"] == (5, 5)  # for connecting, and for reading


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
    assert accounts.find(services, expired.id).state == state


def test_a_refresh_begun_before_a_new_sign_in_does_not_replace_it(services, expired, network):
    def answer(request):
        accounts.sign_out(services, expired.id)
        import_account(services, auth_json("imported"))
        return 200, {}, json.dumps({"access_token": token("late"), "refresh_token": "refresh-late"})

    network.add_callback("POST", TOKEN_URL, answer)
    assert source(services).access_token(expired.id).endswith(".access-imported")
    assert tokens_of(services, expired)[0] == "refresh-imported"


# -------------------------------------------------------------------------------------------------------------- races
def test_fifty_requests_make_one_refresh(services, expired, network):
    network.post(TOKEN_URL, json={"access_token": token("second")}, match=spends("refresh-first"))
    renewing, together = source(services), threading.Barrier(50)

    def ask(_):
        together.wait(PATIENCE)
        return renewing.access_token(expired.id)

    with ThreadPoolExecutor(50) as pool:
        used = set(pool.map(ask, range(50)))
    assert len(network.calls) == 1 and used == {tokens_of(services, expired)[2]}


class Gate:
    """A lock that lets nobody in before ``parties`` threads stand at it."""

    def __init__(self, parties):
        self.lock, self.barrier = threading.Lock(), threading.Barrier(parties)

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
    assert credentials.take_lease(services, expired.id, int(clock[0]), LEASE)
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

    assert credentials.take_lease(services, expired.id, int(clock[0]), LEASE)
    with pytest.raises(GatewayError, match="does not finish"):
        source(services, now=lambda: clock[0], sleep=sleep).access_token(expired.id)


def rotate(services, upstream, access, lifetime):
    """What a sibling does that had the refresh token at the same time (its lease had run out)."""
    version = credentials.read_refresh_token(services, upstream.id).version
    sealed = token(access, lifetime)
    until = int(time.time() + lifetime)
    assert credentials.replace(services, upstream.id, version, "refresh-sibling", None, sealed, until)


@pytest.mark.parametrize("code, status", [("refresh_token_reused", 401), ("invalid_grant", 400)])
def test_a_sibling_that_was_faster_is_believed(services, expired, network, code, status):
    def answer(request):
        rotate(services, expired, "sibling", 3600)
        return status, {}, json.dumps({"error": {"code": code}})

    network.add_callback("POST", TOKEN_URL, answer)
    assert source(services).access_token(expired.id).endswith(".sibling")
    assert accounts.find(services, expired.id).state == "active"


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
    assert accounts.find(services, expired.id).state == "active"


def test_an_import_in_the_middle_of_a_refresh_wins(services, expired, network):
    def answer(request):
        import_account(services, auth_json("imported"))
        return 200, {}, json.dumps({"access_token": token("late"), "refresh_token": "refresh-late"})

    network.add_callback("POST", TOKEN_URL, answer)
    assert source(services).access_token(expired.id).endswith(".access-imported")
    assert tokens_of(services, expired)[0] == "refresh-imported"


def test_a_new_refresh_token_is_stored_even_if_the_database_is_busy_at_first(services, expired, network, monkeypatch):
    network.post(TOKEN_URL, json={"access_token": token("second"), "refresh_token": "refresh-second"})
    replace, slept = credentials.replace, []

    def busy(*arguments):
        if len(slept) < 3:
            raise peewee.OperationalError("database is locked")
        return replace(*arguments)

    monkeypatch.setattr(credentials, "replace", busy)
    used = source(services, sleep=slept.append).access_token(expired.id)
    assert tokens_of(services, expired) == ("refresh-second", 2, used) and len(slept) == 3


def test_a_token_that_cannot_be_stored_is_not_used(services, expired, network, monkeypatch, caplog):
    network.post(TOKEN_URL, json={"access_token": token("second"), "refresh_token": "refresh-second"})

    def broken(*arguments):
        raise peewee.OperationalError("disk full")

    monkeypatch.setattr(credentials, "replace", broken)
    with pytest.raises(GatewayError, match="could not be stored"):
        source(services, sleep=lambda _: None).access_token(expired.id)
    assert "could not be stored" in caplog.text and "refresh-second" not in caplog.text


def test_the_reason_is_told_by_profiles_that_know_it(tmp_path, network):
    services = open_services(tmp_path, FLOWAY_CODEX_PROFILE="0.169.0")
    upstream = import_account(services, auth_json(lifetime=-1))
    network.post(TOKEN_URL, json={"access_token": token("second", 10)})
    renewing = source(services)
    renewing.access_token(upstream.id)
    renewing.access_token(upstream.id, oauth.UNAUTHORIZED)
    told = [json.loads(call.request.body)["refresh_reason"] for call in network.calls]
    assert told == ["proactive_expiry", "unauthorized_recovery"]
    services.database.close_all()
