"""What the backend tells of the account reaches only clients whose API key shows it: the bytes are looked at."""

import json

import pytest
from floway_codex.simulator import Simulator, reply, text

from floway_core.testing import ApiClient

from . import gateways
from .gateways import MODEL
from .recordings import METADATA, as_for_gateway, dispatches

EMAIL, PLAN = "operator@example.com", "business"
MARKS = (b"safety_identifier", b"x-codex-plan-type", b"x-codex-primary", b"x-codex-credits", b"x-codex-promo",
         b"codex.rate_limits", PLAN.encode())  # fmt: skip
"""What is there when an account shows. The name of the first may be there all the same."""


@pytest.fixture(scope="module")
def backend():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def gateway(backend):
    with gateways.start(backend) as running:
        gateways.import_account(running, backend.new_account(EMAIL, PLAN))
        yield running


@pytest.fixture(scope="module")
def clients(gateway):
    shown = gateway.run("keys", "create", "shown", "--shows-account").stdout.strip()
    return {True: ApiClient(gateway.url, shown), False: gateways.caller(gateway)}


@pytest.fixture(scope="module")
def account(backend):
    (account,) = backend.backend.accounts.by_id.values()
    return account


def whole(exchange) -> bytes:
    """Head and body as they came."""
    head = "".join(f"{name.lower()}: {value}\n" for name, value in exchange.headers.items()).encode()
    assert exchange.body is not None
    return head + exchange.received


def secrets(account) -> list[bytes]:
    return [value.encode() for value in (account.user_id, account.account_id, EMAIL, PLAN)]


def hidden(seen: bytes, account) -> bool:
    leaks = [one for one in [*MARKS[1:], *secrets(account)] if one in seen]
    assert leaks == []
    return True


@pytest.mark.parametrize("model", [MODEL, "gpt-6.1-sol"])
@pytest.mark.parametrize("path", ["/v1/responses", "/backend-api/codex/responses"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_key_that_does_not_show_the_account(clients, account, stream, path, model):
    client = clients[False]
    exchange = client.post({"model": model, "input": "Hi", "stream": stream}, path)
    seen = whole(exchange)
    assert exchange.status == 200 and hidden(seen, account)
    final = exchange.events()[-1]["response"] if stream else exchange.json()
    assert (final["safety_identifier"], final["instructions"]) == (None, None)
    assert b"x-codex-turn-state: " in seen and b"x-models-etag: " in seen
    for query in ("", "?stream=true"):
        assert hidden(whole(client.get(f"/v1/responses/{final['id']}{query}")), account)
    compacted = client.post({"model": model, "previous_response_id": final["id"]}, "/v1/responses/compact")
    assert compacted.status == 200 and hidden(whole(compacted), account)


@pytest.mark.parametrize("stream", [True, False])
def test_a_key_that_shows_the_account(clients, account, stream):
    client = clients[True]
    exchange = client.create("Hi", model=MODEL, stream=stream)
    seen = whole(exchange)
    wanted = [*MARKS, account.user_id.encode()] if stream else [*MARKS[:5], account.user_id.encode()]
    assert [mark for mark in wanted if mark not in seen] == []
    final = exchange.events()[-1]["response"] if stream else exchange.json()
    assert final["safety_identifier"] == account.user_id
    assert hidden(whole(client.get(f"/v1/responses/{final['id']}")), account)


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_a_used_up_quota(clients, backend, account, stream, shown):
    """A client learns until when, and not whose plan it is."""
    backend.use_up_quota(account.account_id)
    try:
        exchange = clients[shown].create("Hi", model=MODEL, stream=stream)
        seen, error = whole(exchange), exchange.json()["error"]
    finally:
        backend.restore_quota(account.account_id)
    assert (exchange.status, error["type"]) == (429, "usage_limit_reached") and error["resets_in_seconds"] > 0
    assert [mark in seen for mark in (PLAN.encode(), b"x-codex-primary", b"plan_type")] == [shown] * 3
    assert shown or hidden(seen, account)


@pytest.mark.parametrize("shown", [True, False])
def test_a_failure_in_the_stream(clients, backend, account, shown):
    error = {"type": "usage_limit_reached", "code": "usage_limit_reached", "message": "m", "plan_type": PLAN}
    backend.script(reply(fail=error))
    seen = whole(clients[shown].create("Hi", model=MODEL, stream=True))
    assert b"usage_limit_reached" in seen and (PLAN.encode() in seen) == shown
    assert shown or hidden(seen, account)


@pytest.mark.parametrize("version", ["0.142.0", "0.169.0"])
def test_a_codex_cli_gets_its_turn_state_and_no_account(clients, backend, account, version):
    backend.clear()
    state = None
    for number, direct in enumerate(dispatches(version, "tool_turn")[:2]):
        sent = as_for_gateway(direct, state)
        backend.script(reply(text("pong"), headers={"x-codex-turn-state": "TS-1"} if not number else {}))
        headers = {name: value for name, value in sent.headers
                   if name not in ("authorization", "host", "content-length") and value is not None}  # fmt: skip
        assert METADATA in headers
        exchange = clients[False].send("POST", "/v1/responses", json.dumps(sent.body).encode(), headers)
        assert exchange.status == 200, exchange.body
        assert hidden(whole(exchange), account)
        state = state or exchange.headers["x-codex-turn-state"]
    assert [one.header("x-codex-turn-state") for one in backend.dispatches] == [None, "TS-1"]
    assert backend.findings == []


@pytest.mark.parametrize("model", [MODEL, "gpt-6.1-sol"])
@pytest.mark.parametrize("stated", [None, "", "Be brief."])
@pytest.mark.parametrize("stream", [True, False])
def test_filler_instructions_are_not_the_clients(clients, backend, stream, stated, model):
    backend.clear()
    fields = {} if stated is None else {"instructions": stated}
    exchange = clients[False].create("Hi", model=model, stream=stream, **fields)
    assert exchange.status == 200 and b"You are a helpful assistant" not in whole(exchange)
    final = exchange.events()[-1]["response"] if stream else exchange.json()
    assert final["instructions"] == stated
    stored = clients[False].get(f"/v1/responses/{final['id']}").json()
    assert stored["instructions"] == stated


def test_the_quota_is_known_all_the_same(gateway, clients):
    assert clients[False].create("Hi", model=MODEL).status == 200
    (shown,) = gateways.status(gateway)
    assert shown["limits"] and PLAN in json.dumps(shown["limits"])
