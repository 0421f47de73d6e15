"""The real Gemini CLI, from npm, through the gateway to a scripted upstream of the same API."""

import json

import pytest

from . import wire
from .cli import PROGRAM, GeminiCli

pytestmark = pytest.mark.skipif(
    not PROGRAM, reason="FLOWAY_TEST_GEMINI_CLI is not set: `make test-clients` installs Gemini CLI"
)

MODEL = "gemini-3-test"


@pytest.fixture
def cli(gemini_gateway, gemini_upstream, tmp_path):
    return GeminiCli(gemini_gateway, tmp_path / "home", MODEL)


def shell(command):
    return wire.call("run_shell_command", {"command": command, "description": "Runs it."})


def test_a_loop_of_tools_with_thoughts(cli, gemini_upstream):
    gemini_upstream.script(
        wire.stream(wire.think("**Look** around."), wire.signed(shell("echo from-here"), "c2lnbmVkMQ==")),
        wire.stream(wire.say("All "), wire.say("done — fertig.")),
    )
    done = cli("run it")
    assert done.stdout.strip() == "All done — fertig.", done.stdout + done.stderr
    first, second = wire.posts(gemini_upstream)
    assert first.header("x-goog-api-key") == "the-key-of-the-operator" and "alt=sse" in first.path
    parts = [part for content in json.loads(second.body)["contents"] for part in content["parts"]]
    assert [part["thoughtSignature"] for part in parts if "functionCall" in part] == ["c2lnbmVkMQ=="]
    assert "from-here" in json.dumps([part for part in parts if "functionResponse" in part])


def test_a_failure_passes_and_is_tried_again(cli, gemini_upstream):
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}
    gemini_upstream.script(wire.error(429, "RESOURCE_EXHAUSTED", "Slow down.", wait), wire.stream(wire.say("At last.")))
    done = cli("hello")
    assert done.stdout.strip() == "At last.", done.stdout + done.stderr
    assert len(wire.posts(gemini_upstream)) == 2


def test_a_stream_that_is_cut_is_tried_again(cli, gemini_upstream):
    cut = wire.Reply(wire.events(wire.say("Half an answer"))[:-1])
    gemini_upstream.script(cut, wire.stream(wire.say("A whole answer.")))
    done = cli("hello")
    assert done.stdout.strip().endswith("A whole answer."), done.stdout + done.stderr


def test_a_wrong_key(cli, gemini_upstream):
    done = cli("hello", GEMINI_API_KEY="wrong")
    assert done.returncode != 0 and "API key" in done.stdout + done.stderr
    assert wire.posts(gemini_upstream) == []
