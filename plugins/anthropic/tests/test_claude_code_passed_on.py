"""The real Claude Code, from npm, through the gateway to a scripted upstream that speaks its own API."""

import json
import os

import pytest

from floway_core.testing import Reply, Step

from . import wire
from .test_claude_code import ClaudeCode

pytestmark = pytest.mark.skipif(
    not os.environ.get("FLOWAY_TEST_CLAUDE_CODE"),
    reason="FLOWAY_TEST_CLAUDE_CODE is not set: `make test-clients` installs Claude Code",
)


@pytest.fixture
def claude(messages_gateway, messages_upstream, tmp_path):
    return ClaudeCode(messages_gateway, tmp_path / "home", model="claude-test")


def bodies(upstream):
    return [json.loads(request.body) for request in upstream.requests if request.method == "POST"]


def test_a_tool_loop_with_thinking(claude, messages_upstream):
    for number in range(3):
        shell = {"command": f"echo from-$(({number} + 40))", "description": "Echo"}
        messages_upstream.script(
            wire.stream(wire.think("Hm.", f"c2lnbmVk{number}"), wire.call("Bash", shell, id=f"toolu_{number}"))
        )
    messages_upstream.script(wire.stream(wire.say("All done.")))
    done = claude("run it")
    assert done.stdout.strip() == "All done.", done.stdout + done.stderr
    last = bodies(messages_upstream)[-1]
    blocks = [block for message in last["messages"] if message["role"] == "assistant" for block in message["content"]]
    signatures = [block["signature"] for block in blocks if block["type"] == "thinking"]
    assert signatures == ["c2lnbmVk0", "c2lnbmVk1", "c2lnbmVk2"]
    assert "from-42" in json.dumps(last["messages"])
    assert messages_upstream.requests[-1].header("anthropic-beta"), "the client's own"
    assert "cache_control" in json.dumps(last["system"])


def test_a_web_search(claude, messages_upstream):
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "floway"}}
    found = {
        "type": "web_search_result",
        "url": "https://a.example/",
        "title": "A",
        "encrypted_content": "e",
        "page_age": None,
    }
    results = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [found]}
    messages_upstream.script(
        wire.stream(wire.call("WebSearch", {"query": "floway"})),
        wire.stream(use, results, wire.say("Found.")),
        wire.stream(wire.say("Done.")),
    )
    assert claude("search").stdout.strip() == "Done."
    assert bodies(messages_upstream)[1]["tools"][0]["type"].startswith("web_search_")
    assert "https://a.example/" in json.dumps(bodies(messages_upstream)[2]["messages"])


@pytest.mark.parametrize(
    ("status", "kind", "shown"),
    [
        (429, "rate_limit_error", "Slow down."),
        (529, "overloaded_error", "Overloaded"),
        (401, "authentication_error", "sign-in"),
    ],
)
def test_what_the_upstream_refuses_reaches_the_user(claude, messages_upstream, status, kind, shown):
    messages_upstream.script(*[wire.error(status, kind, "Overloaded" if status == 529 else "Slow down.")] * 8)
    done = claude("hello")
    assert done.returncode != 0 and shown in done.stdout + done.stderr


def test_a_stream_that_is_cut_is_tried_again(claude, messages_upstream):
    half = wire.events(wire.say("half an answer"))[:4]
    messages_upstream.script(Reply([*half, Step.CUT]), wire.as_json(wire.whole(wire.say("A whole answer."))))
    assert claude("hello").stdout.strip() == "A whole answer."


def test_a_resumed_conversation(claude, messages_upstream):
    messages_upstream.script(wire.stream(wire.say("First.")), wire.stream(wire.say("Second.")))
    first = json.loads(claude("--output-format", "json", "begin").stdout)
    second = json.loads(claude("--output-format", "json", "--resume", first["session_id"], "go on").stdout)
    assert second["result"] == "Second." and "First." in json.dumps(bodies(messages_upstream)[-1])
    assert second["usage"]["cache_read_input_tokens"] == 75
