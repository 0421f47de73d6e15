"""No request makes the simulator stumble: it answers what the backend might, and goes on."""

import json
import socket
from typing import Any

import pytest
from floway_codex import simulator as sim
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .backend_client import COMPACT, JSON, RESPONSES, compact_request, dispatch, post, send

ODD_TEXT = st.text(st.characters(exclude_categories=[]), max_size=8)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD_TEXT, inner, max_size=3),
    max_leaves=6,
)
TYPES = ["message", "reasoning", "compaction", "compaction_trigger", "function_call_output", "item_reference"]
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(TYPES) | ODD,
        "role": st.sampled_from(["user", "developer", "assistant"]) | ODD,
        "content": st.lists(st.fixed_dictionaries({"text": ODD}), max_size=2) | ODD,
        "id": ODD,
        "call_id": ODD,
        "output": ODD,
        "encrypted_content": ODD,
    },
)
KEYS = ("input", "tools", "tool_choice", "reasoning", "text", "include", "instructions", "client_metadata", "model")
CHANGES = st.dictionaries(st.sampled_from(KEYS) | ODD_TEXT, ODD, max_size=2) | st.fixed_dictionaries(
    {"input": st.lists(ITEM | ODD, max_size=3)}
)


@pytest.fixture(autouse=True)
def nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> Any:
    """The server prints the trace of what a handler did not expect."""
    yield
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("path", [RESPONSES, COMPACT])
@settings(max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=CHANGES)
def test_any_body_is_answered(backend: sim.Simulator, auth: JSON, path: str, changes: JSON) -> None:
    headers, body = (dispatch if path == RESPONSES else compact_request)(auth)
    raw = json.dumps({**body, **changes}).encode()
    headers.pop("content-encoding", None)
    answer = send(backend.url, "POST", path, headers, raw)
    assert answer.status in (200, 400, 403, 404)
    if answer.status == 200:
        assert answer.events() if path == RESPONSES else answer.json()
    json.dumps([request.as_json() for request in backend.requests])
    backend.clear()


def test_lone_surrogates_come_back(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = dispatch(auth, said="cut \ud83d")
    done = [event for event in send(backend.url, "POST", RESPONSES, headers, body).events() if "item" in event]
    assert done[-1]["item"]["content"][0]["text"] == "You said: cut \ud83d"


@pytest.mark.parametrize("depth", [150, 300, 900, 990, 2000, 100_000])
@pytest.mark.parametrize("name", ["input", "tools", "client_metadata"])
def test_deep_bodies(backend: sim.Simulator, auth: JSON, depth: int, name: str) -> None:
    headers, body = dispatch(auth)
    headers.pop("content-encoding")
    nested = "[" * depth + "]" * depth
    raw = json.dumps({**body, name: "NESTED"}).replace('"NESTED"', nested).encode()
    assert send(backend.url, "POST", RESPONSES, headers, raw).status in (200, 400, 403)
    headers["x-codex-turn-metadata"] = "[" * 5000
    assert send(backend.url, "POST", RESPONSES, headers, body).status == 403
    assert send(backend.url, "GET", "/simulator/requests", {}).status == 200
    assert post(backend, auth).status == 200


@pytest.mark.parametrize("length", ["x", "-1", "\xb2", "1.0"])
def test_a_length_that_is_none(backend: sim.Simulator, auth: JSON, length: str) -> None:
    with socket.create_connection((backend.host, backend.port), 5) as connection:
        connection.sendall(f"POST {RESPONSES} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n".encode("latin-1"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
