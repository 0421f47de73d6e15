"""A codex CLI on a WebSocket: its messages become the requests that it would have posted."""

import contextlib
import json
import uuid
from urllib.parse import urlsplit

import pytest
from floway_codex.identity.posted import as_posted
from floway_codex.simulator import item, reply, text
from websockets.sync.client import connect

from . import gateways, recordings

SESSION = "019a0000-0000-7000-8000-000000000001"
UPGRADE = {
    "originator": "codex_exec",
    "user-agent": "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm-256color (codex_exec; 0.169.0)",
    "openai-beta": "responses_websockets=2026-02-06",
    "x-codex-turn-metadata": json.dumps({"session_id": SESSION, "turn_id": "", "request_kind": "prewarm"}),
    "x-client-request-id": SESSION,
    "session-id": SESSION,
    "thread-id": SESSION,
    "x-codex-window-id": f"{SESSION}:0",
}


def metadata_of(turn, window=0, **more):
    """The ``client_metadata`` of a message."""
    ids = {"session_id": SESSION, "thread_id": SESSION, "turn_id": turn}
    told = {**ids, "window_id": f"{SESSION}:{window}", "request_kind": "turn"}
    more = {"x-codex-window-id": f"{SESSION}:{window}", "x-codex-ws-stream-request-start-ms": "1795811033642", **more}
    return {**ids, "x-codex-turn-metadata": json.dumps(told), **more}


@pytest.fixture(params=["/v1/responses", "/backend-api/codex/responses"])
def send(request, front):
    """Sends a message, and returns the events of its answer."""
    with open_websocket(front, UPGRADE, request.param) as ask:
        yield ask


@contextlib.contextmanager
def open_websocket(front, upgrade, path="/v1/responses"):
    """Yields a function that sends a message, and returns the events of its answer.

    :param upgrade: its headers.
    """
    url = f"ws://{urlsplit(front.gateway.url).netloc}{path}"
    headers = {**upgrade, "authorization": f"Bearer {front.gateway.key}"}
    with connect(url, additional_headers=headers, user_agent_header=None, proxy=None) as connection:

        def ask(**fields):
            message = {"type": "response.create", "model": gateways.MODEL, "stream": True, "store": False, **fields}
            connection.send(json.dumps(message))
            events = [json.loads(connection.recv(20))]
            while events[-1]["type"] not in ("response.completed", "error"):
                events.append(json.loads(connection.recv(20)))
            assert events[-1]["type"] == "response.completed", events[-1]
            return events

        yield ask


def user(text):
    return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]


def test_each_turn_has_its_own_ids_although_the_upgrade_stays_the_same(front, send):
    """X-15, CX-9"""
    front.simulator.script(*(reply(text(f"Answer {number}.")) for number in range(3)))
    turns = [str(uuid.uuid4()) for _ in range(3)]
    warm = send(input=[], generate=False, client_metadata=metadata_of(""))[-1]["response"]
    previous = warm["id"]
    for number, turn in enumerate(turns):
        client = metadata_of(turn, window=number)
        answer = send(input=user(f"Turn {number}"), previous_response_id=previous, client_metadata=client)
        previous = answer[-1]["response"]["id"]
    requests = front.simulator.dispatches
    assert len(requests) == 3  # the backend knows nothing of the warm-up
    for number, (request, turn) in enumerate(zip(requests, turns, strict=True)):
        told = gateways.ids(request)
        assert (told["turn"], told["window"], told["session"]) == (turn, f"{SESSION}:{number}", SESSION)
        assert "x-codex-ws-stream-request-start-ms" not in request.body["client_metadata"]
        assert request.header("openai-beta") is None and request.header("upgrade") is None
    said = [item["content"][0]["text"] for item in requests[-1].body["input"]]
    assert said == ["Turn 0", "Answer 0.", "Turn 1", "Answer 1.", "Turn 2"]


def test_the_turn_state_comes_as_an_event_and_is_given_back_in_the_message(front, send):
    front.simulator.script(*(reply(text("x"), headers={"x-codex-turn-state": f"TS-{number}"}) for number in range(3)))
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    told = send(input=user("One"), client_metadata=metadata_of(first))[0]
    assert told["type"] == "response.metadata"
    state = {"x-codex-turn-state": told["headers"]["x-codex-turn-state"]}
    assert state["x-codex-turn-state"] != "TS-0"  # encrypted
    send(input=user("Two"), client_metadata=metadata_of(first, **state))
    send(input=user("Three"), client_metadata=metadata_of(second, **state))
    requests = front.simulator.dispatches
    assert [request.header("x-codex-turn-state") for request in requests] == [None, "TS-0", None]
    assert not any("x-codex-turn-state" in request.body["client_metadata"] for request in requests)


@pytest.mark.parametrize("version", recordings.VERSIONS)
def test_the_history_of_a_message_is_posted_as_the_cli_posts_it(front, version):
    """A recorded turn, and a message that continues it. The recorded next process of the CLI sends all of it whole."""
    requests = [one for one in recordings.websocket_messages(version, "websocket") if one.phase.startswith("turn ")]
    first = [one for one in requests if one.phase == "turn 1"]
    warmup, later = [one.body for one in requests if one.method == "WS-FRAME" and one.phase.startswith("turn 2")]
    whole = [*warmup["input"], *later["input"]]
    outputs = [one for one in whole if one["type"] in OUTPUT_ITEMS or one.get("role") == "assistant"]
    front.simulator.script(reply(*map(as_sent, outputs[:2])), reply(*map(as_sent, outputs[2:])), reply(text("x")))
    frames = [one.body for one in first if one.method == "WS-FRAME"]
    frames.append({**later, "input": whole[-1:], "previous_response_id": ""})
    model = "gpt-5.5" if "instructions" in later else "gpt-6.1-sol"
    upgrade = {name: value for name, value in first[0].headers if name in KEPT}
    with open_websocket(front, upgrade) as ask:
        previous = None
        for frame in frames:
            more = {"previous_response_id": previous} if "previous_response_id" in frame else {}
            previous = ask(**{**frame, "model": model, **more})[-1]["response"]["id"]
    *_, second, third = (request.body["input"] for request in front.simulator.dispatches)
    assert [list(item.items()) for item in third] == [list(item.items()) for item in whole]
    assert second == third[: len(second)]


KEPT = ("originator", "user-agent", "openai-beta", "version", "x-codex-beta-features", "session-id", "thread-id")
OUTPUT_ITEMS = ("reasoning", "function_call", "custom_tool_call")


def as_sent(resent):
    """An output item as the backend sends it, from the form in which the CLI sends it again."""
    prefix = {"reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}.get(resent["type"], "msg")
    given = {name: value for name, value in resent.items() if name not in (recordings.PASSTHROUGH, "content")}
    if resent["type"] == "message":
        given["content"] = [{**part, "annotations": [], "logprobs": []} for part in resent["content"]]
    return item({"id": f"{prefix}_{uuid.uuid4().hex}", "status": "completed", **given})


LITE = "x-openai-internal-codex-responses-lite"


def test_what_stands_for_headers_becomes_headers():
    client = {
        "ws_request_header_x_openai_internal_codex_responses_lite": "true",
        "ws_request_header_authorization": "Bearer x",
        "ws_request_header_x_codex_number": 5,
        "x-codex-turn-state": "TS",
        "x-codex-ws-stream-request-start-ms": "1",
        "session_id": SESSION,
    }
    headers, body = as_posted({"originator": "codex_exec"}, {"model": "m", "client_metadata": client})
    assert headers == {"originator": "codex_exec", LITE: "true", "x-codex-turn-state": "TS"}
    assert body == {
        "model": "m",
        "client_metadata": {"ws_request_header_authorization": "Bearer x", "session_id": SESSION},
    }


@pytest.mark.parametrize("client", [None, "text", []])
def test_a_message_without_metadata_stays_as_it_is(client):
    assert as_posted({"a": "b"}, {"client_metadata": client}) == ({"a": "b"}, {"client_metadata": client})


def test_a_message_in_the_lite_form_is_sent_in_it(front, send):
    front.simulator.script(reply(text("x")))
    lite = {"ws_request_header_x_openai_internal_codex_responses_lite": "true"}
    form = {"parallel_tool_calls": False, "reasoning": {"context": "all_turns"}}
    tools = {"type": "additional_tools", "role": "developer", "tools": []}
    client = metadata_of(str(uuid.uuid4()), **lite)
    send(model="gpt-6.1-sol", input=[tools, *user("One")], client_metadata=client, **form)
    (request,) = front.simulator.dispatches
    assert request.header(LITE) == "true" and lite.keys().isdisjoint(request.body["client_metadata"])
