"""Upgrades that are refused, or cannot be."""

import pytest
from floway_codex.provider import CodexProvider
from floway_codex.websocket import transport

from floway_core.errors import GatewayError, UpstreamUnreachable

from .asking import (
    OTHER_THREAD,
    THREAD,
    drive,
    kinds,
    with_settings,
)


def test_426_means_post_at_once_and_is_remembered(ask, simulator, waits):
    simulator.websockets.accepts = False
    for thread in (THREAD, OTHER_THREAD):
        assert ask(thread=thread)[0] == 200
    assert kinds(simulator) == ["upgrade", "post", "post"] and waits == []


def test_a_refused_upgrade_is_tried_again_and_then_a_post_is_sent(ask, simulator, waits):
    simulator.websockets.refusals, simulator.websockets.refuses_for_good = [403], True
    assert ask()[0] == 200
    assert kinds(simulator) == ["upgrade"] * 7 + ["post"]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.5, 3.2]
    assert ask(thread=OTHER_THREAD)[0] == 200
    assert kinds(simulator)[8:] == ["post"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_after_a_passing_refusal_there_is_no_warm_up(ask, simulator, waits, status):
    simulator.websockets.refusals = [status]
    assert ask()[0] == 200
    assert kinds(simulator) == ["upgrade", "upgrade", "whole"] and waits == [0.1]


def test_a_401_to_the_upgrade_renews_the_token(ask, simulator, waits):
    simulator.expire_access_tokens()
    assert ask()[0] == 200
    assert simulator.refreshes == 1 and kinds(simulator) == ["upgrade", "upgrade", "whole"]
    tokens = {upgrade.header("authorization") for upgrade in simulator.upgrades}
    assert len(tokens) == 2


def test_an_upgrade_without_an_answer_means_post(ask, simulator, monkeypatch):
    monkeypatch.setattr(transport, "UPGRADE_TIMEOUT_SECONDS", 0.05)
    simulator.websockets.ignores = True
    assert ask()[0] == 200 and ask()[0] == 200
    assert kinds(simulator) == ["upgrade", "post", "post"]


def test_a_proxy_that_knows_http_only_means_post(ask, simulator, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", simulator.url)
    monkeypatch.setenv("http_proxy", simulator.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    ask()
    assert "upgrade" not in kinds(simulator)


def test_websocket_only_means_no_post(attempt, simulator, services, upstream):
    simulator.websockets.accepts = False
    provider = CodexProvider(with_settings(services, {"codex_transport": "websocket"}))
    started = attempt()
    started.provider = provider
    with pytest.raises(GatewayError, match="426 to the upgrade") as error:
        drive(started)
    assert error.value.status == 502 and kinds(simulator) == ["upgrade"]


def test_a_backend_that_cannot_be_reached_is_tried_once(ask, simulator):
    simulator.stop()
    with pytest.raises(UpstreamUnreachable, match="cannot be reached"):
        ask()
