"""Access tokens: when they are renewed, by whom, and what a refusal of the token endpoint means."""

import json
import time

import pytest
import requests
from floway_codex.account import accounts, credentials, oauth, tokens
from floway_codex.account.auth_file import import_account
from floway_codex.account.tokens import TokenSource
from floway_codex.tables import Credentials, Tokens
from floway_codex.wire.host import default_profile
from responses.matchers import json_params_matcher

from floway_core.errors import GatewayError
from floway_core.upstream import HttpClient

from .conftest import TOKEN_URL, auth_json, id_token, open_services, token

PATIENCE = 60
LEASE = 120


def source(services, **options) -> TokenSource:
    settings = services.settings.plugin
    shape = default_profile(settings)
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
            {
                "client_id": "app_EMoamEEZ73f0CkXaXp7hrann",
                "grant_type": "refresh_token",
                "refresh_token": refresh_token,
            },
            strict_match=False,
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


@pytest.mark.parametrize(
    "left, renewed", [(tokens.MIN_REMAINING_SECONDS + 5, False), (tokens.MIN_REMAINING_SECONDS - 5, True), (-5, True)]
)
def test_a_token_is_renewed_five_minutes_before_it_expires(services, network, left, renewed):
    upstream = import_account(services, auth_json(lifetime=left))
    network.post(TOKEN_URL, json={"access_token": token("second"), "refresh_token": "refresh-second"})
    assert source(services).access_token(upstream.id).endswith(".second" if renewed else ".access-first")


@pytest.mark.parametrize(
    "left, renewed", [(tokens.MIN_REMAINING_SECONDS + 5, False), (tokens.MIN_REMAINING_SECONDS - 5, True), (-5, True)]
)
def test_the_token_that_was_read_with_the_account_is_no_exception(services, network, left, renewed):
    upstream = import_account(services, auth_json(lifetime=left))
    network.post(TOKEN_URL, json={"access_token": token("second"), "refresh_token": "refresh-second"})
    account = accounts.require_active(services, upstream.id)
    assert source(services).token_for_account(account).endswith(".second" if renewed else ".access-first")
    assert "sealed" not in repr(account)


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
    assert services.secrets.decrypt(row["id_token"]) == new["id_token"]
    assert "refresh-second" not in row["refresh_token"] and used not in sealed


def test_what_the_answer_leaves_out_is_kept(services, expired, network):
    network.post(TOKEN_URL, json={"access_token": token("second", 7200)})
    used = source(services).access_token(expired.id)
    assert tokens_of(services, expired) == ("refresh-first", 2, used)
    assert credentials.read_access_token(services, expired.id).expires_at == pytest.approx(time.time() + 7200, abs=5)


@pytest.mark.parametrize(
    "answer, lifetime",
    [
        ({"expires_in": 900}, 900),
        ({}, tokens.DEFAULT_LIFETIME_SECONDS),
        ({"expires_in": "soon"}, tokens.DEFAULT_LIFETIME_SECONDS),
    ],
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
    account = accounts.find_account(services, expired.id)
    assert (account.state, account.message) == ("refresh_failed", message)
    assert credentials.read_access_token(services, expired.id) is None and lease_of(services, expired) is None

    import_account(services, auth_json("again"))
    assert source(services).access_token(expired.id).endswith(".access-again")


def test_a_refusal_that_quotes_the_token_is_not_shown(services, expired, network):
    network.post(TOKEN_URL, status=401, json={"error": {"code": "x", "message": "refresh-first is bad"}})
    with pytest.raises(GatewayError) as refused:
        source(services).access_token(expired.id)
    assert "refresh-first" not in refused.value.message
    assert "refresh-first" not in accounts.find_account(services, expired.id).message


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
    assert accounts.find_account(services, expired.id).state == "active"

    network.remove(failing)
    network.post(TOKEN_URL, json={"access_token": token("second")})
    assert renewing.access_token(expired.id).endswith(".second")


def test_tokens_sealed_with_another_key_are_a_clear_503(tmp_path, services, upstream):
    from dataclasses import replace

    from floway_core.secrets import SecretBox

    with pytest.raises(GatewayError, match="FLOWAY_SECRET_KEY") as failed:
        source(replace(services, secrets=SecretBox("another"))).access_token(upstream.id)
    assert failed.value.status == 503


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
