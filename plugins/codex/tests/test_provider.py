"""The provider against the simulated backend: hooks, dispatches and refusals, as the engine drives them."""

import dataclasses
import json
import time

import pytest
from floway_codex import plugin
from floway_codex.account import accounts, credentials, quota, recovery, tokens
from floway_codex.account.auth_file import import_account
from floway_codex.provider import CodexProvider
from floway_codex.simulator import Simulator, html_403, refusal, reply, text

from floway_core.errors import GatewayError
from floway_core.provider import ErrorResponse

from .conftest import dispatch, open_services


@pytest.fixture
def simulator():
    with Simulator() as running:
        yield running


@pytest.fixture(params=["0.142.0", "0.169.0"])
def services(tmp_path, simulator, request):
    urls = {"FLOWAY_CODEX_BASE_URL": simulator.url, "FLOWAY_CODEX_AUTH_URL": simulator.url}
    opened = open_services(tmp_path, FLOWAY_CODEX_PROFILE=request.param, **urls)
    yield opened
    opened.database.close_all()


@pytest.fixture
def account(simulator):
    return simulator.new_account()


@pytest.fixture
def account_id(account):
    return account["tokens"]["account_id"]


@pytest.fixture
def upstream(services, account):
    return import_account(services, account)


def drive(started):
    """What the engine does with one attempt: ``(status, headers, content)`` of the last answer."""
    plugin.on_attempt_start(started)
    for number in (1, 2, 3):
        ctx = dispatch(started, number)
        answer = started.provider.send(ctx)
        content = b""
        while data := answer.body.read(5.0):
            content += data
        answer.body.close()
        if 200 <= answer.status < 300:
            break
        if not started.provider.handle_error_response(ctx, ErrorResponse(answer.status, answer.headers, content)):
            break
    return answer.status, answer.headers, content


def bearers(simulator):
    return [request.header("authorization").removeprefix("Bearer ") for request in simulator.dispatches]


def test_a_turn(attempt, simulator, services, upstream, account_id):
    simulator.script(reply(text("pong")))
    given = {"model": "gpt-5.5", "input": "ping", "temperature": 1, "metadata": {}, "store": True, "stream": False}
    status, _, content = drive(attempt(given))
    assert status == 200 and b"pong" in content and b"response.completed" in content
    sent = simulator.dispatches[0]
    assert sent.header("chatgpt-account-id") == account_id
    assert (sent.body["store"], sent.body["stream"]) == (False, True)
    assert [name for name, _ in sent.headers][-4:] == ["originator", "user-agent", "host", "content-length"]
    assert quota.read_limits(services, upstream.id)[0]["primary"]["used_percent"] == 12


def test_the_models(provider, upstream, simulator):
    models = {model.id: model for model in provider.list_models(upstream)}
    assert models["gpt-6.1-sol"].details["use_responses_lite"] is True and "gpt-5.5" in models
    assert len(simulator.requests) == 1


def test_a_codex_cli_passes_with_a_lite_model(attempt, provider, upstream):
    provider.list_models(upstream)
    headers = {"originator": "codex_exec", "user-agent": "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm-256color"}
    body = {
        "model": "gpt-6.1-sol",
        "parallel_tool_calls": False,
        "input": [{"type": "additional_tools", "role": "developer", "tools": []}],
    }
    assert drive(attempt(body, headers))[0] == 200


def test_an_expired_token_is_renewed_before_the_request(attempt, simulator, services, upstream):
    with services.database.connection_context():
        services.database.execute_sql("UPDATE codex_tokens SET expires_at = 1")
    assert drive(attempt())[0] == 200
    assert simulator.refreshes == 1 and len(simulator.dispatches) == 1


def test_a_401_renews_the_token_and_tries_once_more_with_the_same_identity(attempt, simulator, services, upstream):
    before = credentials.read_refresh_token(services, upstream.id)
    simulator.expire_access_tokens()
    assert drive(attempt())[0] == 200
    first, second = simulator.dispatches
    assert simulator.refreshes == 1 and len(set(bearers(simulator))) == 2
    assert first.body == second.body
    same = [[pair for pair in sent.headers if pair[0] != "authorization"] for sent in (first, second)]
    assert same[0] == same[1]
    after = credentials.read_refresh_token(services, upstream.id)
    assert after.version == before.version + 1 and after.value != before.value
    assert credentials.read_access_token(services, upstream.id).value == bearers(simulator)[1]


def test_a_second_401_reaches_the_client(attempt, simulator):
    unauthorized = refusal(401, {"error": {"code": "token_expired", "message": "no"}})
    simulator.script(unauthorized, unauthorized, unauthorized)
    status, _, content = drive(attempt())
    assert status == 401 and json.loads(content)["error"]["code"] == "token_expired"
    assert len(simulator.dispatches) == 2 and simulator.refreshes == 1


def test_clients_that_try_again_do_not_renew_a_token_again_and_again(attempt, simulator, provider, monkeypatch):
    simulator.script(*[refusal(401, {"detail": "Unauthorized"})] * 6)
    assert [drive(attempt())[0] for _ in range(4)] == [401] * 4
    assert (len(simulator.dispatches), simulator.refreshes) == (5, 1)
    later = time.time() + tokens.REPLACEMENT_PAUSE_SECONDS + 1
    monkeypatch.setattr(provider, "_tokens", dataclasses.replace(provider._tokens, now=lambda: later))
    assert drive(attempt())[0] == 200 and simulator.refreshes == 2
    for number in (3, 4):  # the backend has accepted the tokens before
        simulator.expire_access_tokens()
        assert drive(attempt())[0] == 200 and simulator.refreshes == number


def test_a_token_that_a_sibling_has_replaced_is_not_renewed_again(attempt, simulator, services, provider, upstream):
    started = attempt()
    plugin.on_attempt_start(started)
    ctx = dispatch(started)
    assert provider.send(ctx).status == 200
    sibling = CodexProvider(services)
    sibling._tokens.discard(upstream.id, started.provider_state.token)
    fresh = sibling._tokens.access_token(upstream.id)
    assert provider.handle_error_response(ctx, ErrorResponse(401, [], b'{"detail": "Unauthorized"}'))
    assert simulator.refreshes == 1
    provider.send(dispatch(started, 2))
    assert bearers(simulator)[-1] == fresh


def test_a_revoked_sign_in_ends_the_account(attempt, simulator, services, upstream, account_id, account):
    simulator.revoke(account_id)
    with pytest.raises(GatewayError, match="floway codex import FILE") as ended:
        drive(attempt())
    assert (ended.value.status, ended.value.code) == (503, "session_terminated")
    assert accounts.find_account(services, upstream.id).state == "session_terminated"
    assert credentials.read_access_token(services, upstream.id) is None
    with pytest.raises(GatewayError, match="session_terminated"):
        drive(attempt())
    assert len(simulator.dispatches) == 1 and simulator.refreshes == 0

    simulator.backend.accounts.by_id[account_id].revoked = False
    assert import_account(services, account).id == upstream.id
    assert drive(attempt())[0] == 200


def test_a_late_refusal_of_a_replaced_token_does_not_end_the_account(attempt, simulator, services, provider, upstream):
    started = attempt()
    plugin.on_attempt_start(started)
    ctx = dispatch(started)
    provider.send(ctx)
    provider._tokens.discard(upstream.id, started.provider_state.token)
    provider._tokens.access_token(upstream.id)
    assert provider.handle_error_response(ctx, ErrorResponse(401, [], b'{"error": {"code": "token_invalidated"}}'))
    assert accounts.find_account(services, upstream.id).state == "active"


def test_a_429_is_noted_and_relayed_and_bars_nothing(attempt, simulator, services, upstream, account_id):
    simulator.use_up_quota(account_id, resets_in=3600)
    status, headers, content = drive(attempt())
    error = json.loads(content)["error"]
    assert status == 429 and error["type"] == "usage_limit_reached"
    assert ("x-codex-primary-used-percent", "100") in headers
    assert quota.read_limits(services, upstream.id)[0]["refused_until"] == error["resets_at"]
    simulator.restore_quota(account_id)
    assert drive(attempt())[0] == 200
    assert "refused_until" not in quota.read_limits(services, upstream.id)[0]


@pytest.mark.parametrize(
    "answer, status",
    [
        (html_403(), 403),
        (refusal(500, {"detail": "oops"}), 500),
        (refusal(400, {"detail": "bad"}), 400),
    ],
)
def test_other_refusals_are_left_alone(attempt, simulator, services, upstream, answer, status):
    simulator.script(answer)
    assert drive(attempt())[0] == status
    assert len(simulator.dispatches) == 1
    assert accounts.find_account(services, upstream.id).state == "active"


def test_an_import_takes_effect_at_once(attempt, simulator, services, upstream, account):
    assert drive(attempt())[0] == 200
    again = simulator.backend.accounts.issue(simulator.backend.accounts.by_id[account["tokens"]["account_id"]], 3600)
    import_account(services, {"tokens": again})
    assert drive(attempt())[0] == 200
    assert bearers(simulator)[-1] == again["access_token"]


def test_nothing_secret_is_logged(attempt, simulator, services, upstream, account, account_id, caplog):
    caplog.set_level("DEBUG", "floway")
    simulator.expire_access_tokens()
    drive(attempt())
    simulator.revoke(account_id)
    with pytest.raises(GatewayError):
        drive(attempt())
    secrets = [*account["tokens"].values(), *bearers(simulator)]
    assert not [secret for secret in secrets if secret != account_id and secret in caplog.text]


@pytest.mark.parametrize(
    "body, expected",
    [
        (b'{"error": {"code": "c", "message": "m"}}', ("c", "m")),
        (b'{"detail": {"code": "c", "message": "m"}}', ("c", "m")),
        (b'{"code": "c"}', ("c", "")),
        (b'{"detail": "Unauthorized"}', ("", "")),
        (b'{"error": {"code": 5, "message": null}}', ("", "")),
        (b"[1]", ("", "")),
        (b"<html>", ("", "")),
        (b"", ("", "")),
    ],
)
def test_the_reason_in_a_refusal(body, expected):
    assert recovery.parse_error(body) == expected
