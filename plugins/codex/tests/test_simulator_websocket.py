"""The simulated backend's WebSocket by itself, with the client of a library: it finds what the CLI would not send."""

import json
import time
from typing import Any

import pytest
from floway_codex import simulator as sim
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from .backend_client import RESPONSES, dispatch, send
from .test_simulator_control import control

JSON = Any
NOT_OF_AN_UPGRADE = ("accept", "content-encoding", "content-type")
TEXT = {"type": "output_text", "text": "pong"}


def upgrade(backend: sim.Simulator, auth: JSON, **changes: str | None) -> tuple[ClientConnection, JSON]:
    """A connection, and the first frame for it. ``changes`` are those of headers, with _ for -."""
    headers, body = dispatch(auth, "0.169.0")
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    given = {name: value for name, value in headers.items() if name not in NOT_OF_AN_UPGRADE}
    given |= {"openai-beta": "responses_websockets=2026-02-06", **named}
    url = f"ws{backend.url.removeprefix('http')}{RESPONSES}"
    agent = given.pop("user-agent")
    opened = connect(url, additional_headers={k: v for k, v in given.items() if v}, user_agent_header=agent, proxy=None)
    start = {"x-codex-ws-stream-request-start-ms": str(int(time.time() * 1000))}
    return opened, {"type": "response.create", **body, "client_metadata": {**body["client_metadata"], **start}}


def ask(connection: ClientConnection, frame: JSON) -> JSON:
    """The last event of the answer."""
    connection.send(json.dumps(frame))
    while True:
        event = json.loads(connection.recv(timeout=60))
        if event["type"] in ("response.completed", "error"):
            return event


def following(frame: JSON, answer: JSON, items: list[JSON], **changes: JSON) -> JSON:
    """An increment."""
    made = {}
    for name, value in {**frame, **changes}.items():
        made |= {"previous_response_id": answer["response"]["id"]} if name == "input" else {}
        made[name] = items if name == "input" else value
    return made


USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "and?"}]}


def without_state(backend: sim.Simulator) -> None:
    backend.script(*[sim.reply(sim.text("pong"), headers={"x-codex-turn-state": None}) for _ in range(3)])


def test_increments_add_up(backend: sim.Simulator, auth: JSON) -> None:
    without_state(backend)
    connection, frame = upgrade(backend, auth)
    with connection:
        answer = ask(connection, frame)
        ask(connection, following(frame, answer, [USER]))
    first, second = backend.frames
    assert second.whole["input"][:2] == first.body["input"] and second.whole["input"][3:] == [USER]
    assert second.whole["input"][2]["content"][0]["text"] == "pong"
    assert backend.findings == []


def test_a_change_in_an_increment_is_found(backend: sim.Simulator, auth: JSON) -> None:
    without_state(backend)
    connection, frame = upgrade(backend, auth)
    with connection:
        answer = ask(connection, frame)
        ask(connection, following(frame, answer, [USER], text={"verbosity": "high"}))
    assert backend.findings == ["frame 2: an increment, but text changed"]


def test_a_whole_input_in_the_place_of_an_increment_is_found(backend: sim.Simulator, auth: JSON) -> None:
    without_state(backend)
    connection, frame = upgrade(backend, auth)
    with connection:
        ask(connection, frame)
        said = {"type": "message", "role": "assistant", "content": [TEXT]}
        ask(connection, {**frame, "input": [*frame["input"], said, USER]})
    assert backend.findings == ["frame 2: the whole input, where an increment would do"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda frame: dict(reversed(frame.items())), "type does not come first"),
        (lambda frame: {**frame, "previous_response_id": "resp_1"}, "previous_response_id does not come before input"),
        (lambda frame: {**frame, "input": "text"}, "input is no list"),
        (lambda frame: following(frame, {"response": {"id": "resp_other"}}, []), "Previous response not found."),
        (lambda frame: {**frame, "temperature": 1}, "Unsupported parameter: temperature"),
        (lambda frame: {**frame, "client_metadata": {}}, "x-codex-ws-stream-request-start-ms: missing"),
    ],
)
def test_odd_frames_are_refused(backend: sim.Simulator, auth: JSON, change: JSON, message: str) -> None:
    connection, frame = upgrade(backend, auth)
    with connection:
        answer = ask(connection, change(frame))
    assert answer["type"] == "error" and message in json.dumps(answer)


@pytest.mark.parametrize(
    "changes, status",
    [
        ({"openai_beta": None}, 403),
        ({"accept": "text/event-stream"}, 403),
        ({"x_codex_turn_state": "ts"}, 403),
        ({"authorization": "Bearer other"}, 401),
        ({"chatgpt_account_id": "other"}, 403),
        ({"x_codex_turn_metadata": "no JSON"}, 403),
    ],
)
def test_odd_upgrades_are_refused(backend: sim.Simulator, auth: JSON, changes: JSON, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        upgrade(backend, auth, **changes)
    assert refused.value.response.status_code == status


def test_it_can_refuse_all_upgrades(backend: sim.Simulator, auth: JSON) -> None:
    assert control(backend, "POST", "websockets", {"accepts": False}).status == 204
    with pytest.raises(InvalidStatus, match="426"):
        upgrade(backend, auth)
    assert control(backend, "POST", "websockets", {"accepts": "x", "other": 1}).status == 400


def test_messages_can_be_scripted_over_http(backend: sim.Simulator, auth: JSON) -> None:
    assert control(backend, "POST", "script", [{"messages": [{"type": "x"}], "then": 1001}]).status == 204
    connection, frame = upgrade(backend, auth)
    with connection:
        connection.send(json.dumps(frame))
        assert json.loads(connection.recv(timeout=60)) == {"type": "x"}
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=60)
    assert closed.value.rcvd.code == 1001
    assert send(backend.url, "GET", RESPONSES, {"upgrade": "websocket"}).status == 426
