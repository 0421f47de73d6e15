"""The real Claude Code, from npm, through the gateway."""

import base64
import itertools
import json
import os
import subprocess

import pytest
from floway_codex.simulator import function_call, item, reasoning, refusal, reply, text

from .conftest import MODEL

PROGRAM = os.environ.get("FLOWAY_TEST_CLAUDE_CODE")

pytestmark = pytest.mark.skipif(
    not PROGRAM, reason="FLOWAY_TEST_CLAUDE_CODE is not set: `make test-clients` installs Claude Code"
)


class ClaudeCode:
    """Runs Claude Code in print mode, in a home folder of its own."""

    def __init__(self, gateway, folder, model=MODEL):
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        names = ("ANTHROPIC_MODEL", *(f"ANTHROPIC_DEFAULT_{size}_MODEL" for size in ("OPUS", "SONNET", "HAIKU")))
        self.environ = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "ANTHROPIC_BASE_URL": gateway.url,
            "ANTHROPIC_AUTH_TOKEN": gateway.key,
            **dict.fromkeys(names, model),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "2",
            "IS_SANDBOX": "1",  # it refuses to skip permissions as root elsewhere
        }

    def __call__(self, *arguments, typed="", **environ):
        return subprocess.run(
            [PROGRAM, "--print", "--dangerously-skip-permissions", *arguments],
            env={**self.environ, **environ},
            cwd=self.work,
            input=typed,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture
def claude(codex_gateway, backend, tmp_path):
    return ClaudeCode(codex_gateway, tmp_path / "home")


def last_output(backend):
    """The last result of a tool in the latest request."""
    return [one for one in backend.dispatches[-1].body["input"] if one["type"] == "function_call_output"][-1]["output"]


def test_an_answer(claude, backend):
    backend.script(reply(text("Hello from the model.", chunks=4)))
    done = claude("hello")
    assert (done.returncode, done.stdout.strip()) == (0, "Hello from the model."), done.stderr


def test_a_loop_of_ten_steps_keeps_its_reasoning(claude, backend):
    for number in range(9):
        shell = {"command": f"echo from-$(({number} + 40))", "description": "Echo"}
        thought = reasoning(f"Step {number}." if number % 2 else None, f"blob-{number}")
        backend.script(reply(thought, text(f"Step {number}."), function_call("Bash", shell, chunks=2)))
    backend.script(reply(text("All done.")))
    done = claude("run it")
    assert done.stdout.strip() == "All done.", done.stdout + done.stderr
    inputs = [request.body["input"] for request in backend.dispatches]
    assert len(inputs) == 10 and "from-48" in last_output(backend)
    for earlier, later in itertools.pairwise(inputs):
        assert json.dumps(later[: len(earlier)]) == json.dumps(earlier)
    for name in ("instructions", "tools"):
        assert len({json.dumps(request.body.get(name)) for request in backend.dispatches}) == 1, "the cache finds them"
    blobs = [one["encrypted_content"] for one in inputs[-1] if one["type"] == "reasoning"]
    assert blobs == [f"blob-{number}" for number in range(9)]
    assert len({request.header("session-id") for request in backend.dispatches}) == 1
    assert len({request.body["client_metadata"]["turn_id"] for request in backend.dispatches}) == 1


def test_reading_and_writing_files(claude, backend):
    file = claude.work / "notes.txt"
    file.write_text("one\ntwo\n")
    path = str(file)
    backend.script(
        reply(function_call("Read", {"file_path": path})),
        reply(function_call("Edit", {"file_path": path, "old_string": "two", "new_string": "zwei \u00fc"})),
        reply(function_call("Write", {"file_path": str(claude.work / "new.txt"), "content": "made\n"})),
        reply(text("Edited.")),
    )
    done = claude("edit it")
    assert done.stdout.strip() == "Edited.", done.stderr
    assert file.read_text() == "one\nzwei \u00fc\n" and (claude.work / "new.txt").read_text() == "made\n"


def test_several_tools_at_once_and_one_that_fails(claude, backend):
    calls = [function_call("Bash", {"command": command, "description": "x"}) for command in ("echo one", "exit 3")]
    backend.script(reply(*calls), reply(text("Seen.")))
    assert claude("run both").stdout.strip() == "Seen."
    outputs = [one for one in backend.dispatches[-1].body["input"] if one["type"] == "function_call_output"]
    assert outputs[0]["output"] == "one" and outputs[1]["output"].startswith("Error: ")


def test_an_image(claude, backend, red_png):
    image = claude.work / "red.png"
    image.write_bytes(red_png)
    backend.script(reply(function_call("Read", {"file_path": str(image)})), reply(text("Red.")))
    assert claude("what colour").stdout.strip() == "Red."
    (part,) = (part for part in last_output(backend) if part["type"] == "input_image")
    assert base64.b64decode(part["image_url"].partition(",")[2]).startswith(b"\x89PNG")


def test_a_web_search(claude, backend):
    annotation = {
        "type": "url_citation",
        "url": "https://a.example/",
        "title": "Page A",
        "start_index": 0,
        "end_index": 4,
    }
    part = {"type": "output_text", "text": "Found it.", "annotations": [annotation], "logprobs": []}
    found = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    action = {"type": "search", "query": "floway gateway", "sources": [{"type": "url", "url": "https://a.example/"}]}
    search = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": action}
    backend.script(
        reply(function_call("WebSearch", {"query": "floway gateway"})),
        reply(item(search), item(found)),
        reply(text("Done.")),
    )
    done = claude("search the web")
    assert done.stdout.strip() == "Done.", done.stderr
    assert {"type": "web_search"} in backend.dispatches[1].body["tools"]
    assert "https://a.example/" in last_output(backend) and "Page A" in last_output(backend)


def test_a_resumed_conversation(claude, backend):
    backend.script(reply(reasoning(None, "blob"), text("First.")), reply(text("Second.")))
    first = json.loads(claude("--output-format", "json", "begin").stdout)
    second = json.loads(claude("--output-format", "json", "--resume", first["session_id"], "go on").stdout)
    assert (first["result"], second["result"]) == ("First.", "Second.")
    one, two = backend.dispatches
    assert one.header("session-id") == two.header("session-id")
    assert "First." in json.dumps(two.body["input"]) and "blob" in json.dumps(two.body["input"])


def test_two_conversations_have_two_sessions(claude, backend):
    backend.script(reply(text("Hello.")), reply(text("Hello.")))
    assert [claude("begin").stdout.strip() for _ in range(2)] == ["Hello."] * 2
    one, two = backend.dispatches
    assert one.header("session-id") != two.header("session-id")


def test_streamed_json(claude, backend):
    backend.script(reply(reasoning("Hm.", "blob"), text("One.")), reply(text("Two.")))
    lines = [
        json.dumps({"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": said}]}})
        for said in ("first", "second")
    ]
    options = (
        "--input-format",
        "stream-json",
        "--output-format",
        "stream-json",
        "--verbose",
        "--include-partial-messages",
    )
    done = claude(*options, typed="\n".join(lines) + "\n")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    results = [one["result"] for one in messages if one["type"] == "result"]
    assert results == ["One.", "Two."], done.stdout + done.stderr
    kinds = {one["event"]["type"] for one in messages if one["type"] == "stream_event"}
    assert kinds >= {"message_start", "content_block_delta", "message_delta", "message_stop"}
    usage = [one["usage"] for one in messages if one["type"] == "result"]
    assert all(one["input_tokens"] > 0 and one["output_tokens"] > 0 for one in usage)


def test_a_wrong_key(claude, backend):
    done = claude("hello", ANTHROPIC_AUTH_TOKEN="wrong")
    assert done.returncode != 0 and "401" in done.stdout + done.stderr
    assert backend.dispatches == []


@pytest.mark.parametrize(
    ("status", "body", "shown"),
    [
        (429, {"error": {"type": "usage_limit_reached", "message": "The limit is reached."}}, "The limit is reached."),
        (529, {"error": {"type": "overloaded_error", "message": "Overloaded."}}, "Overloaded"),
        (400, {"detail": "The weather is not supported."}, "The weather is not supported."),
    ],
)
def test_what_the_upstream_refuses_reaches_the_user(claude, backend, status, body, shown):
    backend.script(*[refusal(status, body)] * 8)
    done = claude("hello")
    assert done.returncode != 0 and shown in done.stdout + done.stderr


def test_a_stream_that_is_cut_is_tried_again(claude, backend):
    backend.script(reply(text("half an answer", chunks=4), cut_after=5), reply(text("A whole answer.")))
    done = claude("hello")
    assert done.stdout.strip() == "A whole answer.", done.stderr


def test_the_context_is_counted(claude, backend):
    done = claude("/context")
    assert done.returncode == 0 and "System" in done.stdout, done.stdout + done.stderr
