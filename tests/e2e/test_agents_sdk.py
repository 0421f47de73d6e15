"""The Agents SDK of OpenAI, from PyPI, with conversations as its sessions."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from floway_core.testing import RunningGateway

PYTHON = os.environ.get("FLOWAY_TEST_AGENTS_SDK")
CLIENT = Path(__file__).parent / "clients/agents_client.py"

pytestmark = pytest.mark.skipif(not PYTHON, reason="FLOWAY_TEST_AGENTS_SDK is not set: `make test-clients` sets it")


def test_a_session_in_a_conversation():
    with RunningGateway(installed=["echo"]) as gateway:
        assert gateway.run("echo", "add", "echo").returncode == 0
        command = [PYTHON, CLIENT, f"{gateway.url}/v1", gateway.key, "echo"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert gateway.log.count(" 200 ") > 10 and " 500 " not in gateway.log
    said = {text: f"You said: {text}" for text in ("one", "two", "three", "four")}
    added = [str(number) for number in range(45)]
    assert json.loads(done.stdout) == {
        "answers": list(said.values()),
        "popped": [said["two"]],
        "session": ["one", said["one"], "two", *added],
        "latest": added[-2:],
        "conversation": ["three", said["three"], "four", said["four"]],
    }
