"""The openai package for Node, over a WebSocket and with its stream helper."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from floway_core.testing import Reply, message_stream

from ..support.odd_events import CALL_A, about, completed, done
from ..support.stored_upstreams import add_upstreams

INSTALLED = os.environ.get("FLOWAY_TEST_CHAT_CLIENTS")

pytestmark = pytest.mark.skipif(
    not INSTALLED, reason="FLOWAY_TEST_CHAT_CLIENTS is not set: `make test-clients` installs the clients"
)


@pytest.fixture
def run(start_gateway, plugin_folder, fake_upstream):
    """Runs a script with the package, in front of the fake upstream, and returns the JSON that it prints."""
    settings = {"wire_url": fake_upstream.url}
    gateway = start_gateway(settings, plugin_folders=[plugin_folder], environ={"TEST_JOURNAL": os.devnull})
    add_upstreams(gateway, first="wire")

    def run(name):
        script = Path(INSTALLED, "node", name)  # it finds its packages beside itself
        shutil.copy(Path(__file__).with_name(f"openai_{name}"), script)
        command = ["node", script, f"{gateway.url}/v1", gateway.key, "model-1"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_conversation(run, fake_upstream):
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    told = run("websocket.mjs")
    assert (told["first"], told["second"]) == ("Hello there.", "Hello there.")
    assert (told["error"]["status"], told["error"]["error"]["code"]) == (400, "previous_response_not_found")
    assert told["events"].count("response.completed") == 3 and told["code"] == 1000
    texts = [item["content"][0]["text"] for item in json.loads(fake_upstream.requests[-1].body)["input"]]
    assert texts == ["One", "Hello there.", "Two"]


def test_the_stream_helper_follows_an_upstream_that_announces_nothing(run, fake_upstream):
    events = [
        about("reasoning_summary_text.delta", 0, "rs_1", summary_index=0, delta="Short."),
        about("reasoning_text.delta", 0, "rs_1", content_index=0, delta="At length."),
        about("output_text.delta", 1, "msg_1", content_index=0, delta="Hello."),
        done(2, CALL_A),
    ]
    fake_upstream.script(Reply([*events, completed()]))
    told = run("stream.mjs")
    assert told["deltas"] == ["Short.", "At length.", "Hello."] and told["text"] == "Hello."
    assert told["types"] == ["reasoning", "message", "function_call"]
