"""Error events are what the same refusals are over HTTP."""

import json

import pytest
from floway_codex import plugin
from floway_codex.account import quota
from floway_codex.simulator import messages
from floway_codex.websocket import transport

from floway_core.errors import UpstreamBroken

from ..conftest import dispatch
from .asking import (
    CREATED,
    DELTA,
    OTHER_THREAD,
    STARTED,
    USER,
    drive,
    kinds,
    outputs,
    read_whole,
)

LIMIT_REACHED = {"type": "usage_limit_reached", "message": "used up", "resets_at": 4_000_000_000}


@pytest.mark.parametrize(
    "status, error, headers",
    [
        (400, {"type": "invalid_request_error", "code": "invalid_value", "message": "m", "param": "input"}, {}),
        (400, {"type": "invalid_request_error", "code": "invalid_encrypted_content", "message": "m"}, {}),
        (429, {"type": "rate_limit_exceeded", "code": "rate_limit_exceeded", "message": "m"}, {"Retry-After": "1"}),
        (429, LIMIT_REACHED, {"x-codex-primary-used-percent": "100"}),
        (500, {"type": "server_error", "code": None, "message": "m"}, {}),
        (503, {"type": "server_error", "code": "server_is_overloaded", "message": "m"}, {"retry-after": "7"}),
    ],
)
def test_an_error_event_is_the_answer_over_http(attempt, simulator, status, error, headers):
    event = {"type": "error", "status": status, "error": error, "headers": headers}
    simulator.script(messages(CREATED, event))
    started = attempt()
    plugin.on_attempt_start(started)
    answer = started.provider.send(dispatch(started))
    assert (answer.status, json.loads(read_whole(answer.body))) == (status, {"error": error})
    assert {name.lower(): value for name, value in headers.items()}.items() <= dict(answer.headers).items()
    answer.body.close()
    assert drive(started)[0] == 200
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"]  # the connection was dropped, as the CLI does


def test_a_used_up_quota_is_noted(ask, simulator, services, upstream, account):
    simulator.use_up_quota(account["tokens"]["account_id"])
    status, content = ask()
    assert (status, json.loads(content)["error"]["type"]) == (429, "usage_limit_reached")
    assert quota.read_limits(services, upstream.id)[0]["refused_because"] == "usage_limit_reached"


def test_a_401_in_an_event_renews_the_token(ask, simulator, waits):
    assert ask()[0] == ask(thread=OTHER_THREAD)[0] == 200
    simulator.expire_access_tokens()
    assert ask()[0] == 200
    assert simulator.refreshes == 1
    assert kinds(simulator)[6:] == ["whole", "upgrade", "whole"]
    assert ask(thread=OTHER_THREAD)[0] == 200  # its connection has the old token, too, but there is a new one already
    assert simulator.refreshes == 1


@pytest.mark.parametrize("code", ["previous_response_not_found", "websocket_connection_limit_reached"])
def test_errors_of_the_connection_are_mended_with_a_new_one(ask, simulator, waits, code):
    history = [USER, *outputs(ask()[1]), USER]
    simulator.script(messages({"type": "error", "status": 400, "error": {"code": code, "message": "m"}}))
    assert ask(history)[0] == 200
    assert kinds(simulator) == [*STARTED, "increment", "upgrade", "whole"] and waits == [0.2]


def test_an_error_without_a_status_reaches_the_client(ask, simulator):
    simulator.script(messages(CREATED, {"type": "error", "error": {"message": "odd"}}, then="cut"))
    with pytest.raises(UpstreamBroken):
        ask()


def test_an_error_behind_content_is_an_event_without_its_headers(ask, simulator):
    event = {"type": "error", "status": 500, "error": {"message": "late"}, "headers": {"x-codex-plan-type": "pro"}}
    simulator.script(messages(CREATED, DELTA, event))
    status, content = ask()
    assert status == 200 and b'event: error\ndata: {"type":"error","status":500' in content
    assert b"plan" not in content
    assert ask()[0] == 200
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"]


def test_a_late_refusal_behind_the_limits_is_a_refusal(attempt, simulator, monkeypatch):
    """The backend reports the account's limits at once; whether it accepts the request is said later."""
    monkeypatch.setattr(transport, "CONTENT_WAIT_SECONDS", 0.0)
    limits = {"type": "codex.rate_limits", "rate_limits": {"primary": {"used_percent": 1}}}
    error = {"type": "error", "status": 429, "error": {"type": "rate_limit_exceeded", "message": "m"}}
    simulator.script(messages(limits, error))
    assert drive(attempt())[0] == 429
