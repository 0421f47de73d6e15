"""LiteLLM, as installed from PyPI, through the gateway."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from floway_codex.simulator import function_call, reasoning, refusal, reply, text

from .conftest import MODEL

CLIENTS = Path(__file__).parent / "clients"
LITELLM = os.environ.get("FLOWAY_TEST_LITELLM")


@pytest.mark.skipif(not LITELLM, reason="FLOWAY_TEST_LITELLM is not set: `make test-clients` installs it")
def test_litellm(codex_gateway, backend):
    backend.script(
        reply(reasoning("I look.", "blob"), function_call("weather", {"city": "Ulm"}, chunks=3)),
        reply(text("It is sunny.")),
        reply(text("Hello there.", chunks=3)),
        reply(text('{"name": "Ulm"}')),
        refusal(429, {"error": {"type": "usage_limit_reached", "message": "Enough.", "resets_in_seconds": 9}}),
        reply(text("Half an answer", chunks=4), cut_after=5),
    )
    command = [LITELLM, str(CLIENTS / "litellm_client.py"), codex_gateway.url, codex_gateway.key, MODEL]
    environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "calls": [["weather", {"city": "Ulm"}]],
        "answer": "It is sunny.",
        "streamed": "Hello there.",
        "usage": True,
        "object": {"name": "Ulm"},
        "refused": [429, True],
        "cut": True,
    }
    items = backend.dispatches[1].body["input"]
    assert [item["encrypted_content"] for item in items if item["type"] == "reasoning"] == ["blob"]
