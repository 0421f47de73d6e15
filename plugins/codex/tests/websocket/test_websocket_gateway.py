"""A running gateway over WebSockets: streams without threads, clients that leave, workers that end."""

import json
import os
import signal

import pytest
from floway_codex.simulator import Simulator, messages, reply, text

from floway_core.testing import ApiClient, RunningGateway

from .. import gateways
from .asking import CREATED, DELTA

STREAMS = 12


def start(backend: Simulator, **more: str) -> RunningGateway:
    running = gateways.start(backend, codex_transport="auto", **more)
    gateways.import_account(running, backend.new_account())
    return running


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def backend(simulator) -> Simulator:
    """A backend that has recorded nothing yet."""
    simulator.clear()
    return simulator


@pytest.fixture(scope="module")
def gateway(simulator):
    """A gateway for the tests that do not stop it."""
    with start(simulator) as running:
        yield running


@pytest.fixture
def client(gateway) -> ApiClient:
    return ApiClient(gateway.url, gateways.create_key(gateway))


def stream(client: ApiClient, said: str = "ping", **fields):
    body = {"model": gateways.MODEL, "input": said, "stream": True, **fields}
    return client.send("POST", "/v1/responses", json.dumps(body).encode(), {"content-type": "application/json"})


def converse(client: ApiClient, count: int, previous: str | None = None) -> str:
    """Have ``count`` turns that continue by id, and return the last response's."""
    for number in range(count):
        more = {"previous_response_id": previous} if previous else {}
        answer = stream(client, f"Question {number}", **more)
        assert answer.status == 200, answer.body
        terminal = answer.events()[-1]
        assert terminal["type"] == "response.completed"
        previous = terminal["response"]["id"]
    return previous


LITE_MODEL = "gpt-6.1-sol"
AGENTS = [
    {"instructions": f"You are agent {name}.", "tools": [{"type": "function", "name": name, "parameters": {}}]}
    for name in ("first", "second")
]


def read_agent(body):
    """The instructions and the tools that the backend has got with a request."""
    leading = [item for item in body["input"] if item.get("role") == "developer"]
    instructions = [item["content"][0]["text"] for item in leading if item["type"] == "message"]
    tools = [tool for item in leading for tool in item.get("tools", ())]
    found = {"instructions": instructions[-1]} if instructions else {}
    assert len(instructions) <= 1
    return {**found, **({"tools": tools} if (tools := tools or body.get("tools") or []) else {})}


@pytest.mark.parametrize("models", [[gateways.MODEL], [LITE_MODEL], [gateways.MODEL, LITE_MODEL]])
def test_instructions_and_tools_are_those_of_the_turn(client, backend, models):
    """They may change from turn to turn, as when one agent hands a conversation over to another."""
    asked, previous = [AGENTS[0], AGENTS[0], AGENTS[1], AGENTS[1], {}, {}, AGENTS[0]], None
    for number, agent in enumerate(asked):
        more = {"previous_response_id": previous, **agent, "model": models[number % len(models)]}
        previous = stream(client, f"Question {number}", **more).events()[-1]["response"]["id"]
    assert [read_agent(turn.body) for turn in backend.turns] == asked
    said = [[item["content"][0]["text"] for item in turn.body["input"] if item.get("role") == "user"]
            for turn in backend.turns]  # fmt: skip
    assert said == [[f"Question {number}" for number in range(count + 1)] for count in range(len(asked))]
    assert backend.findings == []


def test_a_connection_with_an_old_token_does_not_use_up_the_renewal(client, backend):
    """Another conversation has renewed the token that the connection was opened with, and the new one is refused."""
    previous = converse(client, 1)
    backend.expire_access_tokens()
    assert stream(client, "Another conversation").events()[-1]["type"] == "response.completed"
    backend.expire_access_tokens()
    refreshes = backend.refreshes
    converse(client, 1, previous)
    assert backend.refreshes == refreshes + 1 and backend.findings == []


def test_streams_cost_no_thread(gateway, client, backend):
    (worker,) = gateway.workers
    converse(client, 2)
    before = len(os.listdir(f"/proc/{worker}/task"))
    backend.script(*[messages(CREATED, DELTA, then="hang") for _ in range(STREAMS)])
    answers = []
    for number in range(STREAMS):
        answers.append(stream(client, f"question {number}"))
        answers[-1].read_until(b"Hello")
    assert len(os.listdir(f"/proc/{worker}/task")) - before < STREAMS / 2
    for answer in answers:
        answer.hang_up()
    for frame in [one for one in backend.frames if one.answered == "scripted"]:
        assert frame.client_gone.wait(10)


def test_events_arrive_as_the_backend_sends_them(client, backend):
    backend.script(reply(text("one two three", chunks=3), event_delay=0.05))
    answer = stream(client)
    received = answer.read_until(b"response.output_text.delta")
    assert b"response.completed" not in received
    assert b"response.completed" in answer.body


def test_a_killed_worker_leaves_nothing_behind(gateway, client, backend):
    backend.script(messages(CREATED, DELTA, then="hang"))
    answer = stream(client)
    answer.read_until(b"Hello")
    (worker,) = gateway.workers
    os.kill(worker, signal.SIGKILL)
    assert backend.frames[-1].client_gone.wait(10)
    answer.hang_up()
    gateways.wait_for(lambda: gateway.workers not in ([], [worker]))
    converse(client, 2)
    assert [len(frame.body["input"]) for frame in backend.frames[2:]] == [0, 1, 1]
    assert len(backend.upgrades) == 2 and backend.findings == []


def test_after_a_restart_the_whole_input_is_sent(backend, tmp_path):
    with start(backend) as gateway:
        last = converse(gateways.caller(gateway), 3)
        (worker,) = gateway.workers
        os.kill(worker, signal.SIGKILL)
        gateways.wait_for(lambda: gateway.workers not in ([], [worker]))
        converse(gateways.caller(gateway), 2, last)
    sizes = [len(frame.body["input"]) for frame in backend.frames]
    assert sizes == [0, 1, 1, 1, 0, 7, 1] and backend.findings == []


def test_a_graceful_stop_closes_idle_connections_and_lets_streams_end(backend):
    others = list(backend.websockets.sessions)
    with start(backend, graceful_timeout="10") as gateway:
        client = gateways.caller(gateway)
        converse(client, 1)
        backend.script(reply(text("slow", chunks=4), event_delay=0.1))
        answer = stream(client)
        answer.read_until(b"response.output_text.delta")
        gateway.process.send_signal(signal.SIGTERM)
        assert b"response.completed" in answer.body
        assert gateway.process.wait(60) == 0
    gateways.wait_for(lambda: set(backend.websockets.sessions) <= set(others))


def test_two_workers_have_connections_of_their_own(backend):
    with start(backend, workers="2") as gateway:
        client, last = gateways.caller(gateway), None
        for _ in range(12):
            last = converse(client, 1, last)
    frames = [frame for frame in backend.frames if "generate" not in frame.body]
    assert [len(frame.whole["input"]) for frame in frames] == list(range(1, 25, 2))
    assert len(backend.upgrades) <= 2 and backend.findings == []


def test_what_was_used_is_shown(gateway, client):
    last = converse(client, 1)
    commands = [["codex", "explain", last, "--json"], ["codex", "explain", last], ["codex", "status", "--offline"]]
    as_json, explained, status = (out for _, out, _ in gateways.run_each(gateway, commands))
    assert json.loads(as_json)["transport"] == "websocket"
    assert "transport       websocket" in explained and "sec-websocket-extensions" in explained
    assert "transport WebSocket, else POST, as the CLI" in status
