"""The exchange of a sign-in's code for tokens, and what can go wrong with it."""

from urllib.parse import parse_qs

import pytest
import requests
from floway_codex.account import login

from floway_core.errors import GatewayError

from .conftest import TOKEN_URL, id_token, token

CALLBACK = "http://localhost:1455/auth/callback"


@pytest.fixture
def exchange(services, network):
    def make():
        started = login.start_sign_in(services, 1455)
        return login.finish_sign_in(services, started, "the-code", None), started

    return make


TOKENS = {"access_token": token("access"), "refresh_token": "refresh-text", "id_token": id_token()}


def test_the_exchange_is_a_form_without_the_state(exchange, network):
    network.post(TOKEN_URL, json=TOKENS)
    _, started = exchange()
    request = network.calls[0].request
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert {name: value for name, [value] in parse_qs(request.body.decode(), strict_parsing=True).items()} == {
        "grant_type": "authorization_code",
        "code": "the-code",
        "redirect_uri": CALLBACK,
        "client_id": "app_EMoamEEZ73f0CkXaXp7hrann",
        "code_verifier": started.verifier,
    }
    assert started.verifier not in repr(started)


@pytest.mark.parametrize(
    "answer, message",
    [
        (
            {"status": 400, "json": {"error": "invalid_grant", "error_description": "the-code is spent"}},
            "invalid_grant",
        ),
        ({"status": 403, "json": {"error": {"code": "app_session_terminated"}}}, "app_session_terminated"),
        ({"json": {**TOKENS, "id_token": None}}, "tokens.id_token"),
        ({"json": {**TOKENS, "refresh_token": None}}, "tokens.refresh_token"),
        ({"json": {**TOKENS, "id_token": "no JWT"}}, "not a JWT"),
    ],
)
def test_an_exchange_that_gives_no_account_is_a_failure(exchange, network, answer, message):
    network.post(TOKEN_URL, **answer)
    with pytest.raises(login.SignInFailed, match=message) as failed:
        exchange()
    assert "the-code" not in str(failed.value)


@pytest.mark.parametrize(
    "answer, message",
    [
        ({"status": 500, "body": "<html>"}, "It answered 500"),
        ({"status": 400, "json": {"error": {"code": "unknown_parameter"}}}, r"It answered 400 \(unknown_parameter\)"),
        ({"body": requests.ConnectionError()}, "cannot be reached"),
    ],
)
def test_a_token_endpoint_out_of_order_is_told(exchange, network, answer, message):
    network.post(TOKEN_URL, **answer)
    with pytest.raises(GatewayError, match=message) as failed:
        exchange()
    assert failed.value.status == 503 and "sign-in" in failed.value.message
