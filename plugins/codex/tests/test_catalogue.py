"""The model list: requested with the account, parsed tolerantly, and stored in the database."""

import pytest
from floway_codex.account import accounts
from floway_codex.account.auth_file import import_account
from floway_codex.catalogue import parse_models
from floway_codex.provider import CodexProvider
from floway_codex.wire.profile import load_profiles

from floway_core.errors import GatewayError

from .conftest import MODELS_URL, TOKEN_URL, auth_json, token


def test_entries_are_kept_whole_and_malformed_ones_skipped(caplog):
    body = (
        b'{"models": [{"slug": "a", "visibility": "hide", "new_field": [1]}, {"display_name": "b"}, "c", '
        b'{"slug": ""}, {"slug": 4}, {"slug": "d"}], "more": 1}'
    )
    models = parse_models(body)
    assert [model.id for model in models] == ["a", "d"]
    assert models[0].details == {"slug": "a", "visibility": "hide", "new_field": [1]}
    assert models[0].owned_by == "openai" and caplog.text.count("skipped") == 4


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"models": {}}', b"null", b"\xff"])
def test_what_is_no_model_list_is_an_error(body):
    with pytest.raises(GatewayError) as refused:
        parse_models(body)
    assert refused.value.status == 502


# ------------------------------------------------------------------------------------------------ through the provider
def test_a_refused_token_is_renewed_once(provider, upstream, network):
    network.get(MODELS_URL, status=401, json={"error": {"code": "token_expired"}})
    network.get(MODELS_URL, json={"models": [{"slug": "a"}]})
    network.post(TOKEN_URL, json={"access_token": token("second")})
    assert [model.id for model in provider.list_models(upstream)] == ["a"]
    bearers = [call.request.headers["authorization"][-12:] for call in network.calls if "models" in call.request.url]
    assert bearers == ["access-first", bearers[1]] and bearers[1].endswith(".second")


@pytest.mark.parametrize("renewals", [0, 1])
def test_a_401_that_says_so_ends_the_sign_in(services, provider, upstream, network, renewals):
    for _ in range(renewals):
        network.get(MODELS_URL, status=401, json={"detail": "Unauthorized"})
    network.get(MODELS_URL, status=401, json={"error": {"code": "token_invalidated", "message": "Signed out."}})
    network.post(TOKEN_URL, json={"access_token": token("second")})
    with pytest.raises(GatewayError, match=r"session_terminated \(Signed out\).*floway codex login") as refused:
        provider.list_models(upstream)
    assert (refused.value.status, refused.value.code) == (503, "session_terminated")
    assert accounts.find_account(services, upstream.id).state == "session_terminated"
    assert len([call for call in network.calls if call.request.url == TOKEN_URL]) == renewals


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_any_other_answer_is_an_error_that_names_the_status(provider, upstream, network, status):
    network.get(MODELS_URL, status=status, body="<html>secret page</html>")
    network.post(TOKEN_URL, json={"access_token": token("second")})
    with pytest.raises(GatewayError, match=str(status)) as refused:
        provider.list_models(upstream)
    assert refused.value.status == 502 and "secret page" not in refused.value.message


def test_the_list_is_stored_and_outlives_the_process(services, upstream, network):
    network.get(MODELS_URL, json={"models": [{"slug": "a", "more": "é\u0000"}]}, headers={"etag": 'W/"1"'})
    first = CodexProvider(services).list_models(upstream)
    network.reset()
    assert CodexProvider(services).list_models(upstream) == first  # without the network
    import_account(services, auth_json(account="acct-2"))  # another upstream has its own
    with services.database.connection_context():
        rows = services.database.execute_sql("SELECT upstream_id, client_version, etag FROM codex_catalogue").fetchall()
    assert rows == [(upstream.id, list(load_profiles())[-1], 'W/"1"')]


def test_a_list_for_another_version_of_the_cli_is_not_used(services, provider, upstream, network):
    network.get(MODELS_URL, json={"models": [{"slug": "a"}]})
    provider.list_models(upstream)
    with services.database.connection_context():
        services.database.execute_sql("UPDATE codex_catalogue SET client_version = '0.1.0'")
    network.reset()
    network.get(MODELS_URL, json={"models": [{"slug": "b"}]})
    assert [model.id for model in CodexProvider(services).list_models(upstream)] == ["b"]
