"""The simulator as seen by other processes and clients."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from floway_codex import simulator as sim

from .backend_client import JSON, RESPONSES, BackendResponse, dispatch, post, send


def control(backend: sim.Simulator, method: str, name: str, body: JSON = None) -> BackendResponse:
    return send(backend.url, method, f"/simulator/{name}", {"content-type": "application/json"}, body)


def test_control_surface(backend: sim.Simulator) -> None:
    auth = control(backend, "POST", "accounts", {"email": "a@example.com", "plan": "plus"}).json()
    account = auth["tokens"]["account_id"]
    script = [
        {
            "reply": [
                {"reasoning": None},
                {"text": "one", "chunks": 2},
                {"function_call": "f", "arguments": {"a": 1}},
                {"custom_tool_call": "g", "input": "x"},
                {"compaction": None},
                {"item": {"type": "web_search_call", "id": "ws_1"}},
            ],
            "total_tokens": 9,
            "headers": {"x-test": "1"},
        },
        {"refusal": 500, "body": {"error": {"message": "oops"}}},
        {"html_403": None},
    ]
    assert control(backend, "POST", "script", script).status == 204
    answer = post(backend, auth)
    kinds = [e["item"]["type"] for e in answer.events() if e["type"] == "response.output_item.done"]
    assert kinds == ["reasoning", "message", "function_call", "custom_tool_call", "compaction", "web_search_call"]
    assert answer.headers["x-test"] == "1" and answer.events()[-1]["response"]["usage"]["total_tokens"] == 9
    assert [post(backend, auth).status, post(backend, auth).status] == [500, 403]
    log = control(backend, "GET", "requests").json()
    assert [entry["status"] for entry in log] == [200, 500, 403] and log[0]["body"]["model"] == "gpt-5.5"
    assert log[0]["headers"][1] == ["version", "0.142.0"] and log[0]["client_gone"] is False
    for body, status in (({"account_id": account, "resets_in": 60}, 429), ({"account_id": account}, 200)):
        assert control(backend, "POST", "quota", body).status == 204
        assert post(backend, auth).status == status
    assert control(backend, "POST", "expire").status == 204
    assert post(backend, auth).status == 401
    assert control(backend, "POST", "revoke", {"account_id": account}).status == 204
    assert control(backend, "DELETE", "requests").status == 204
    assert control(backend, "GET", "requests").json() == []


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("script", {}),
        ("script", [{}]),
        ("script", [{"reply": [{}]}]),
        ("script", [{"reply": [], "unknown": 1}]),
        ("script", [{"reply": [], "hang": True}]),
        ("script", [7]),
        ("accounts", {"unknown": 1}),
        ("quota", None),
        ("quota", {"account_id": "nobody", "resets_in": 1}),
        ("revoke", {}),
        ("script", b"{"),
    ],
)
def test_control_surface_refuses_what_it_does_not_know(backend: sim.Simulator, name: str, body: JSON) -> None:
    answer = control(backend, "POST", name, body)
    assert answer.status == 400 and answer.json()["detail"]
    assert control(backend, "POST", "nothing").status == 404


def test_openai_package_parses_the_stream(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = dispatch(auth)
    del headers["content-encoding"], headers["authorization"]

    def strip(request: Any) -> None:
        for name in [name for name in request.headers if name.startswith("x-stainless-") or name == "accept-encoding"]:
            del request.headers[name]

    backend.script(
        sim.reply(
            sim.reasoning("Hm"),
            sim.text("one two", chunks=2),
            sim.function_call("f", {"a": 1}),
            sim.custom_tool_call("g", "x"),
        )
    )
    with openai.OpenAI(
        base_url=f"{backend.base_url}/codex",
        api_key=auth["tokens"]["access_token"],
        default_headers=headers,
        http_client=openai.DefaultHttpxClient(event_hooks={"request": [strip]}),
        max_retries=0,
    ) as client:
        extra = {"client_metadata": body.pop("client_metadata")}
        events = list(client.responses.create(**body, extra_body=extra))
    assert all(type(event).__name__.startswith("Response") for event in events)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "one two"
    assert (
        events[-1].response.usage.total_tokens
        == events[-1].response.usage.input_tokens + events[-1].response.usage.output_tokens
    )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    auth_file = tmp_path / "auth.json"
    auth_file.write_text("old")
    auth_file.chmod(0o644)
    code = (
        "from pathlib import Path; from floway_codex.simulator import serve; "
        f"serve('127.0.0.1', 0, Path({str(auth_file)!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    yield process, auth_file
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_until_a_signal(served: tuple[subprocess.Popen[str], Path], number: int) -> None:
    process, auth_file = served
    base_url, auth_url, shown = (process.stdout.readline().rstrip("\n") for _ in range(3))
    base_url = base_url.removeprefix("export FLOWAY_CODEX_BASE_URL=")
    auth_url = auth_url.removeprefix("export FLOWAY_CODEX_AUTH_URL=")
    assert shown == f"floway codex import {auth_file}" and stat.S_IMODE(auth_file.stat().st_mode) == 0o600
    url = base_url.removesuffix("/backend-api")
    assert auth_url == f"{url}/oauth/token"
    headers, body = dispatch(json.loads(auth_file.read_text()))
    assert send(url, "POST", RESPONSES, headers, body).status == 200
    process.send_signal(number)
    assert process.wait(60) == 0
