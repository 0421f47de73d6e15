"""Clients that leave, requests at once, and what is not shared."""

import socket
import threading

import pytest
from floway_codex import plugin
from floway_codex.account import quota
from floway_codex.simulator import messages

from floway_core.contexts import ApiKey, ClientRequest
from floway_core.errors import ClientDisconnected

from ..conftest import NoClient, dispatch
from .asking import (
    COMPLETED,
    CREATED,
    DELTA,
    STARTED,
    THREAD,
    USER,
    drive,
    kinds,
    read_whole,
)


def test_a_client_that_leaves_drops_the_connection(attempt, simulator):
    simulator.script(messages(CREATED, DELTA, then="hang"))
    started = attempt()
    plugin.on_attempt_start(started)
    answer = started.provider.send(dispatch(started))
    assert b"Hello" in answer.body.read(5.0)
    answer.body.close()
    assert simulator.frames[-1].client_gone.wait(60)
    assert drive(started)[0] == 200
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"]


def test_a_client_that_leaves_before_the_answer_ends_the_wait(attempt, simulator):
    ours, theirs = socket.socketpair()
    started = attempt()

    class Leaving(NoClient):
        def fileno(self):
            return ours.fileno()

        def is_closed(self):
            return True

    started.request = ClientRequest("req_1", started.request.api_key, {}, started.request.body, True, Leaving())
    simulator.script(messages(CREATED, then="hang"))
    plugin.on_attempt_start(started)
    threading.Timer(0.1, theirs.close).start()
    with pytest.raises(ClientDisconnected):
        started.provider.send(dispatch(started))
    ours.close()


def test_two_requests_of_a_thread_at_once_have_connections_of_their_own(ask, simulator):
    assert ask()[0] == 200
    answers = []
    with simulator.hold_responses():
        threads = [threading.Thread(target=lambda: answers.append(ask()[0])) for _ in range(2)]
        for thread in threads:
            thread.start()
        simulator.wait_for_requests(len(simulator.requests) + 2)
    for thread in threads:
        thread.join()
    assert answers == [200, 200] and len(simulator.upgrades) == 2
    assert ask()[0] == 200 and len(simulator.upgrades) == 2


def test_keys_accounts_and_clients_do_not_share_connections(ask, attempt, simulator):
    assert ask()[0] == 200
    for key, agent in (("key_2", None), ("key_1", "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm-256color")):
        headers = {"session-id": THREAD, "thread-id": THREAD} | (
            {"originator": "codex_exec", "user-agent": agent} if agent else {}
        )
        started = attempt({"model": "gpt-5.5", "input": [{"type": "message", **USER}]}, headers)
        request = started.request
        started.request = ClientRequest("r", ApiKey(key, "k"), request.headers, request.body, True, NoClient())
        drive(started)
    assert len(simulator.upgrades) == 3


def test_the_limits_in_an_event_are_stored(ask, simulator, services, upstream):
    assert ask()[0] == 200
    (limit,) = quota.read_limits(services, upstream.id)
    assert limit["plan"] == "pro"
    event = {"type": "codex.rate_limits", "plan_type": "plus", "rate_limits": {"primary": {"used_percent": 77}}}
    simulator.script(messages(event, CREATED, DELTA, COMPLETED))
    assert ask()[0] == 200
    (limit,) = quota.read_limits(services, upstream.id)
    assert (limit["plan"], limit["primary"]["used_percent"]) == ("plus", 77)


def test_an_answer_that_is_there_at_once_needs_no_descriptor(attempt, simulator):
    """Its connection may serve another request already, or be closed."""
    started = attempt()
    plugin.on_attempt_start(started)
    simulator.script(messages(CREATED, COMPLETED))
    body = started.provider.send(dispatch(started)).body
    body.wait(5.0, NoClient()) if not body.answer.has_ended else None
    assert body.fileno() is None and b"response.completed" in read_whole(body)
    body.close()
    assert drive(started)[0] == 200 and len(simulator.upgrades) == 1
