"""The openai package for Node, over a WebSocket."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from floway_core.testing import Reply, message_stream

from ..support.stored_upstreams import add_upstreams

INSTALLED = os.environ.get("FLOWAY_TEST_CHAT_CLIENTS")

pytestmark = pytest.mark.skipif(
    not INSTALLED, reason="FLOWAY_TEST_CHAT_CLIENTS is not set: `make test-clients` installs the clients"
)


def test_a_conversation(start_gateway, plugin_folder, fake_upstream):
    settings = {"wire_url": fake_upstream.url}
    gateway = start_gateway(settings, plugin_folders=[plugin_folder], environ={"TEST_JOURNAL": os.devnull})
    add_upstreams(gateway, first="wire")
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    script = Path(INSTALLED, "node/websocket.mjs")  # it finds its packages beside itself
    shutil.copy(Path(__file__).with_name("openai_websocket.mjs"), script)
    command = ["node", script, f"{gateway.url}/v1", gateway.key, "model-1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["first"], told["second"]) == ("Hello there.", "Hello there.")
    assert (told["error"]["status"], told["error"]["error"]["code"]) == (400, "previous_response_not_found")
    assert told["events"].count("response.completed") == 3 and told["code"] == 1000
    texts = [item["content"][0]["text"] for item in json.loads(fake_upstream.requests[-1].body)["input"]]
    assert texts == ["One", "Hello there.", "Two"]
