"""The simulator answers like the backend it stands for."""

import http.client
import json
import socket
import time
import uuid
from typing import Any

import pytest
from floway_codex import simulator as sim

from .backend_client import (
    COMPACT,
    JSON,
    MODELS,
    RESPONSES,
    VERSIONS,
    BackendResponse,
    compact_request,
    dispatch,
    edited_metadata,
    open_request,
    post,
    send,
)

pytest_plugins = ["floway_codex.simulator.fixtures"]


@pytest.fixture
def backend(codex_simulator: sim.Simulator) -> sim.Simulator:
    """The fixture for others, which is as good as the tests' own."""
    return codex_simulator


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_request_passes_and_is_echoed(backend: sim.Simulator, auth: JSON, version: str) -> None:
    headers, body = dispatch(auth, version, said="ping ☎\u2028")
    answer = send(backend.url, "POST", RESPONSES, headers, body)
    assert answer.status == 200, answer.body
    done = [event["item"] for event in answer.events() if event["type"] == "response.output_item.done"]
    assert [item["content"][0]["text"] for item in done] == ["You said: ping ☎\u2028"]
    (request,) = backend.requests
    assert (request.status, request.answered, request.body) == (200, "200 message completed", body)
    assert [name for name, _ in request.headers][1:-1] == list(headers)
    assert request.done.wait(60) and not request.client_gone.is_set()


def test_stream_shape(backend: sim.Simulator, auth: JSON) -> None:
    backend.script(
        sim.reply(
            sim.reasoning("Thinking", chunks=2),
            sim.text("one two", chunks=3),
            sim.function_call("shell", {"cmd": "ls"}),
            sim.custom_tool_call("apply_patch", "*** x"),
            sim.compaction(),
            total_tokens=50000,
            cached_tokens=7,
        )
    )
    answer = post(backend, auth)
    events = answer.events()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["transfer-encoding"] == "chunked" and b"[DONE]" not in answer.body
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
        "output_item.added",
        "output_item.done",
        "completed",
    ]
    final = events[-1]["response"]
    assert final["output"] == [] and final["status"] == "completed" and final["usage"]["total_tokens"] == 50000
    assert final["usage"]["input_tokens_details"] == {"cached_tokens": 7}
    assert final["id"] == events[0]["response"]["id"] and events[0]["response"]["status"] == "in_progress"
    kinds = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert kinds[0]["encrypted_content"] and kinds[2]["arguments"] == '{"cmd":"ls"}' and kinds[3]["input"] == "*** x"


def test_headers_of_a_200(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = dispatch(auth)
    first = send(backend.url, "POST", RESPONSES, headers, body)
    assert first.headers["x-codex-turn-state"] and first.headers["x-request-id"]
    assert first.headers["x-codex-plan-type"] == "pro" and first.headers["x-codex-credits-balance"] == ""
    assert int(first.headers["x-codex-primary-reset-at"]) > time.time()
    second = send(backend.url, "POST", RESPONSES, headers | {"x-codex-turn-state": "TS"}, body)
    assert "x-codex-turn-state" not in second.headers
    models = send(backend.url, "GET", MODELS, headers)
    assert models.headers["etag"] == first.headers["x-models-etag"]
    lite = {model["slug"]: model["use_responses_lite"] for model in models.json()["models"]}
    assert lite == {"gpt-5.5": False, "gpt-6.1-sol": True, "gpt-5.4": False, "gpt-5.4-mini": False}


def test_the_answer_tells_of_the_account(backend: sim.Simulator, auth: JSON) -> None:
    answer = post(backend, auth)
    limits, *events = answer.all_events()
    assert limits["type"] == "codex.rate_limits" and limits["plan_type"] == "pro"
    percent = answer.headers["x-codex-primary-used-percent"]
    assert str(limits["rate_limits"]["primary"]["used_percent"]) == percent
    (user,) = {event["response"]["safety_identifier"] for event in events if "response" in event}
    assert user.startswith("user-")


def test_scripted_headers_replace_and_remove(backend: sim.Simulator, auth: JSON) -> None:
    backend.script(sim.reply(headers={"x-models-etag": "other", "Content-Type": None}))
    answer = post(backend, auth)
    assert answer.headers["x-models-etag"] == "other" and "content-type" not in answer.headers


def test_trigger_gets_exactly_one_compaction(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = dispatch(auth, kind="compaction")
    body["input"].append({"type": "compaction_trigger"})
    events = send(backend.url, "POST", RESPONSES, headers, body).events()
    assert [e["item"]["type"] for e in events if e["type"] == "response.output_item.done"] == ["compaction"]
    edited_metadata(headers, body, request_kind="turn")
    assert send(backend.url, "POST", RESPONSES, headers, body).status == 403


def test_unary_compaction(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = compact_request(auth)
    answer = send(backend.url, "POST", COMPACT, headers, body)
    assert answer.status == 200 and "x-codex-turn-state" not in answer.headers
    compacted = answer.json()
    assert compacted["object"] == "response.compaction" and compacted["usage"]["total_tokens"] > 0
    assert [item["type"] for item in compacted["output"]] == ["compaction"]
    refused = send(backend.url, "POST", COMPACT, headers, body | {"store": False})
    assert refused.json() == {"detail": "Unsupported parameter: store"}
    other = send(backend.url, "POST", COMPACT, headers | {"x-codex-installation-id": str(uuid.uuid4())}, body)
    assert other.status == 403 and b"x-codex-installation-id" in other.body


def test_scripted_function_and_refusals(backend: sim.Simulator, auth: JSON) -> None:
    backend.script(
        lambda body: sim.reply(sim.text(body["model"])),
        sim.refusal(503, {"error": {"message": "busy"}}),
        sim.html_403(),
        sim.reply(fail={"code": "rate_limit_exceeded", "message": "slow"}),
        sim.reply(sim.text("x"), incomplete="max_output_tokens", empty_output=False),
    )
    assert post(backend, auth).events()[4]["delta"] == "gpt-5.5"
    assert post(backend, auth).json() == {"error": {"message": "busy"}}
    page = post(backend, auth)
    assert page.status == 403 and page.headers["content-type"].startswith("text/html")
    assert post(backend, auth).events()[-1]["response"]["error"]["code"] == "rate_limit_exceeded"
    last = post(backend, auth).events()[-1]
    assert last["type"] == "response.incomplete" and len(last["response"]["output"]) == 1


def test_accounts_check(backend: sim.Simulator, auth: JSON) -> None:
    headers = {"authorization": f"Bearer {auth['tokens']['access_token']}"}
    answer = send(backend.url, "GET", "/backend-api/wham/accounts/check", headers)
    assert answer.json()["default_account_id"] == auth["tokens"]["account_id"]
    assert send(backend.url, "GET", "/backend-api/wham/settings/user", headers).status == 404


def test_websocket_is_refused_with_426(backend: sim.Simulator) -> None:
    assert send(backend.url, "GET", RESPONSES, {"connection": "Upgrade", "upgrade": "websocket"}).status == 426


# ---------------------------------------------------------------- broken and silent answers
def test_cut_breaks_the_connection(backend: sim.Simulator, auth: JSON) -> None:
    backend.script(sim.reply(sim.text("x"), cut_after=3), sim.reply(sim.text("x"), cut_after=3, clean_cut=True))
    with pytest.raises(http.client.IncompleteRead) as caught:
        post(backend, auth)
    assert len(BackendResponse(200, {}, caught.value.partial).events()) == 3
    assert len(post(backend, auth).events()) == 3


@pytest.mark.parametrize(
    "step",
    [
        sim.hang(),
        sim.hang(before_headers=False),
        sim.reply(sim.text("x"), hang_after=4),
        sim.reply(sim.text("x", delay=3600)),
        sim.reply(sim.text("x"), event_delay=3600),
    ],
)
def test_hang_up_is_noticed(backend: sim.Simulator, auth: JSON, step: Any) -> None:
    backend.script(step)
    headers, body = dispatch(auth)
    del headers["content-encoding"]
    connection = open_request(backend.url, "POST", RESPONSES, headers, json.dumps(body).encode())
    (request,) = backend.wait_for_requests(1)
    response = None if step == sim.hang() else connection.getresponse()
    assert not request.client_gone.is_set()
    connection.close()  # the socket itself is closed with the response, when there is one
    if response is not None:
        response.close()
    assert request.client_gone.wait(60) and request.done.wait(60)


def test_stop_ends_silent_answers() -> None:
    backend = sim.Simulator().start()
    backend.script(sim.hang())
    headers, body = dispatch(backend.new_account())
    del headers["content-encoding"]
    connection = open_request(backend.url, "POST", RESPONSES, headers, json.dumps(body).encode())
    (request,) = backend.wait_for_requests(1)
    backend.stop()
    assert request.done.wait(60) and not request.client_gone.is_set()
    with pytest.raises(ConnectionError):
        connection.getresponse()
    connection.close()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", backend.port), timeout=1)


def test_keeps_connections_alive(backend: sim.Simulator, auth: JSON) -> None:
    connection = http.client.HTTPConnection(backend.url.removeprefix("http://"), timeout=60)
    for _ in range(2):
        headers, body = dispatch(auth)
        del headers["content-encoding"]
        connection.putrequest("POST", RESPONSES, skip_accept_encoding=True)
        text = json.dumps(body).encode()
        for name, value in (headers | {"content-length": str(len(text))}).items():
            connection.putheader(name, value)
        connection.endheaders(text)
        own_port = connection.sock.getsockname()[1]
        assert connection.getresponse().read()
        assert connection.sock.getsockname()[1] == own_port
    connection.close()
