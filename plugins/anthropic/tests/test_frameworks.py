"""Vercel's AI SDK and LangChain, as installed from npm and PyPI, through the gateway."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from floway_codex.simulator import function_call, reasoning, refusal, reply, text

from .conftest import MODEL

CLIENTS = Path(__file__).parent / "clients"
AI_SDK = os.environ.get("FLOWAY_TEST_AI_SDK")
LANGCHAIN = os.environ.get("FLOWAY_TEST_LANGCHAIN")


def run(gateway, *command, model=MODEL):
    command = [str(word) for word in (*command, gateway.url, gateway.key, model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def reasoning_in(request):
    return [item["encrypted_content"] for item in request.body["input"] if item["type"] == "reasoning"]


@pytest.mark.skipif(not AI_SDK, reason="FLOWAY_TEST_AI_SDK is not set: `make test-clients` installs it")
def test_the_ai_sdk(codex_gateway, backend, tmp_path):
    backend.script(
        reply(reasoning("I look.", "blob"), function_call("weather", {"city": "Ulm"}, chunks=3)),
        reply(text("It is sunny.")),
        reply(reasoning(None, "other"), text("Hello there.", chunks=3)),
        reply(text('{"name": "Ulm"}')),
        refusal(400, {"detail": "The weather is not supported."}),
    )
    script = Path(AI_SDK) / "client.mjs"  # it finds its packages beside itself
    shutil.copy(CLIENTS / "ai_sdk.mjs", script)
    got = run(codex_gateway, "node", script)
    assert (got["asked"], got["text"], got["steps"], got["finish"]) == (["Ulm"], "It is sunny.", 2, "stop")
    assert got["reasoning"] == "I look." and reasoning_in(backend.dispatches[1]) == ["blob"]
    assert got["streamed"] == "Hello there." and {"reasoning-start", "text-delta", "finish"} <= set(got["kinds"])
    assert got["usage"]["outputTokens"] > 0 and got["object"] == {"name": "Ulm"}
    assert got["refused"]["status"] == 400 and "The weather" in got["refused"]["message"]


@pytest.mark.skipif(not LANGCHAIN, reason="FLOWAY_TEST_LANGCHAIN is not set: `make test-clients` installs it")
def test_langchain(codex_gateway, backend):
    backend.script(
        reply(reasoning("I look.", "blob"), function_call("weather", {"city": "Ulm"}, chunks=3)),
        reply(text("It is sunny.")),
        reply(text("Hello there.", chunks=3)),
        reply(text('{"name": "Ulm"}')),
    )
    got = run(codex_gateway, LANGCHAIN, CLIENTS / "langchain_client.py")
    assert got == {
        "calls": [["weather", {"city": "Ulm"}]],
        "answer": "It is sunny.",
        "streamed": "Hello there.",
        "usage": True,
        "object": "Ulm",
    }
    assert reasoning_in(backend.dispatches[1]) == ["blob"]
