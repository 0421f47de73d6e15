"""The real Gemini CLI, from npm, through the gateway to the simulated Codex backend."""

import base64
import itertools
import json
import random
import re
from pathlib import Path

import pytest
from floway_codex.simulator import function_call, item, reasoning, refusal, reply, text
from floway_gemini.aliases import FAST, STRONG

from .cli import PROGRAM, GeminiCli
from .conftest import MODEL

pytestmark = pytest.mark.skipif(
    not PROGRAM, reason="FLOWAY_TEST_GEMINI_CLI is not set: `make test-clients` installs Gemini CLI"
)


@pytest.fixture
def cli(codex_gateway, backend, tmp_path):
    return GeminiCli(codex_gateway, tmp_path / "home", MODEL)


@pytest.fixture(scope="module")
def aliased_gateway(start_with_codex):
    """One with the aliases for the models that the CLI names itself."""
    with start_with_codex("echo", "gemini") as gateway:
        assert gateway.run("gemini", "aliases", MODEL).returncode == 0
        yield gateway


def outputs(backend):
    """The results of tools in the latest request."""
    return [one["output"] for one in backend.dispatches[-1].body["input"] if one["type"] == "function_call_output"]


def shell(command):
    return function_call("run_shell_command", {"command": command, "description": "Runs it."}, chunks=2)


def test_an_answer_with_thoughts(cli, backend):
    backend.script(reply(reasoning("**Greeting** the user.", "blob"), text("Hello from the model.", chunks=4)))
    done = cli("hello")
    assert (done.returncode, done.stdout.strip()) == (0, "Hello from the model."), done.stderr
    assert backend.dispatches[0].body["reasoning"]["summary"] == "auto"


def test_a_loop_of_tools_keeps_its_reasoning(cli, backend):
    for number in range(4):
        thought = reasoning(f"**Step** {number}." if number % 2 else None, f"blob-{number}")
        backend.script(reply(thought, text(f"Step {number}."), shell(f"echo from-{number + 40}")))
    backend.script(reply(text("All done.")))
    done = cli("run it")
    assert done.stdout.strip().endswith("All done."), done.stdout + done.stderr
    inputs = [request.body["input"] for request in backend.dispatches]
    assert len(inputs) == 5 and "from-43" in outputs(backend)[-1]
    for earlier, later in itertools.pairwise(inputs):
        assert json.dumps(later[: len(earlier)]) == json.dumps(earlier)
    blobs = [one["encrypted_content"] for one in inputs[-1] if one["type"] == "reasoning"]
    assert blobs == [f"blob-{number}" for number in range(4)]
    assert len({request.header("session-id") for request in backend.dispatches}) == 1
    assert len({request.body["client_metadata"]["turn_id"] for request in backend.dispatches}) == 1


def test_parallel_calls(cli, backend):
    backend.script(reply(reasoning(None, "blob"), shell("echo one"), shell("echo two")), reply(text("Done.")))
    assert cli("run both").stdout.strip() == "Done."
    assert "one" in outputs(backend)[0] and "two" in outputs(backend)[1]


def test_a_file_is_written(cli, backend):
    file = cli.work / "greeting.txt"
    content = "Grüße, 世界\n"
    backend.script(
        reply(function_call("write_file", {"file_path": str(file), "content": content}, chunks=5)),
        reply(text("Written.")),
    )
    done = cli("write it")
    assert done.stdout.strip() == "Written." and file.read_text(encoding="utf-8") == content, done.stderr


def test_an_image(cli, backend, red_png):
    image = cli.work / "red.png"
    image.write_bytes(red_png)
    backend.script(reply(function_call("read_file", {"file_path": str(image)})), reply(text("Red.")))
    assert cli("what colour").stdout.strip() == "Red."
    sent = json.dumps(backend.dispatches[-1].body["input"])
    assert f"data:image/png;base64,{base64.b64encode(red_png).decode()}" in sent


def test_streamed_json(cli, backend):
    backend.script(reply(reasoning("Hm.", "blob"), shell("echo hi")), reply(text("One. Two.", chunks=3)))
    messages = cli.messages("hello")
    assert [one["type"] for one in messages][:2] == ["init", "message"]
    said = [one["content"] for one in messages if one["type"] == "message" and one["role"] == "assistant"]
    assert "".join(said) == "One. Two."
    assert [one["tool_name"] for one in messages if one["type"] == "tool_use"] == ["run_shell_command"]
    assert messages[-1]["type"] == "result" and messages[-1]["status"] == "success"
    stats = messages[-1]["stats"]
    assert stats["input_tokens"] > 0 and stats["output_tokens"] > 0 and stats["tool_calls"] == 1


def test_a_long_answer_in_other_alphabets(cli, backend):
    """With line separators that Google's SDK for JavaScript takes for line ends."""
    numbers = random.Random(5)
    letters = "Größe 世界 🎉 Ёж\u2028\u2029ة"  # at random, because the CLI stops an answer that repeats itself
    answer = "".join(numbers.choice(letters) for _ in range(8000)) + "."
    backend.script(reply(text(answer, chunks=200)))
    done = cli("write a lot")
    assert done.stdout.strip() == answer.strip(), done.stderr


def test_a_web_search(aliased_gateway, backend, tmp_path):
    annotation = {
        "type": "url_citation",
        "url": "https://a.example/",
        "title": "Page A",
        "start_index": 0,
        "end_index": 8,
    }
    part = {"type": "output_text", "text": "Fündig 🎉.", "annotations": [annotation], "logprobs": []}
    found = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    action = {"type": "search", "query": "floway", "sources": [{"type": "url", "url": "https://a.example/"}]}
    search = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": action}
    backend.script(
        reply(function_call("google_web_search", {"query": "floway"})),
        reply(item(search), item(found)),
        reply(text("Done.")),
    )
    done = GeminiCli(aliased_gateway, tmp_path / "home", MODEL)("search the web")
    assert done.stdout.strip() == "Done.", done.stdout + done.stderr
    assert {"type": "web_search"} in backend.dispatches[1].body["tools"]
    assert "Fündig 🎉[1]." in outputs(backend)[0] and "[1] Page A (https://a.example/)" in outputs(backend)[0]


def test_models_that_the_cli_chooses_itself(aliased_gateway, backend, tmp_path):
    backend.script(*[reply(text('{"reasoning": "r", "model_choice": "flash"}'))] * 3)
    done = GeminiCli(aliased_gateway, tmp_path / "home", "auto")("hello")
    assert done.returncode == 0 and "model_choice" in done.stdout, done.stderr


def test_the_aliases_are_all_models_that_the_cli_names():
    """In its sources: all that it calls a model, without those of other kinds."""
    sources = [file.read_text(encoding="utf-8") for file in Path(PROGRAM).resolve().parent.glob("*.js")]
    named = set(re.findall(r'"(gemini-[\d.]+-(?:pro|flash)[a-z.\d-]*)"', "".join(sources)))
    served = {name for name in named if not re.search(r"image|live|-base$", name)}
    assert served and served - {*STRONG, *FAST} == set()


def test_a_model_that_does_not_exist_is_requested_once(cli, codex_gateway, backend):
    """Without the aliases. Gemini CLI repeats a request for ever that is refused with 404 in the body."""
    backend.script(reply(function_call("google_web_search", {"query": "floway"})), reply(text("Done.")))
    before = codex_gateway.log.count("gemini-3-flash-preview")
    assert cli("search the web").stdout.strip() == "Done."
    assert codex_gateway.log.count("gemini-3-flash-preview") - before <= 2
    assert "gemini-3-flash-preview" in json.dumps(outputs(backend))


def test_a_wrong_key(cli, backend):
    done = cli("hello", GEMINI_API_KEY="wrong")
    assert done.returncode != 0 and "API key" in done.stdout + done.stderr
    assert backend.dispatches == []


LIMIT = {"error": {"type": "usage_limit_reached", "message": "The limit is reached.", "resets_in_seconds": 7200}}
BUSY = {"error": {"type": "rate_limit_exceeded", "message": "Slow down.", "resets_in_seconds": 1}}


def test_a_passing_failure_is_tried_again(cli, backend):
    """After as long as the upstream says; the CLI waits five seconds at least."""
    backend.script(refusal(429, BUSY), reply(text("At last.")))
    done = cli("hello")
    assert done.stdout.strip() == "At last.", done.stdout + done.stderr
    assert len(backend.requests) == 2


def test_a_limit_that_lasts_is_told_at_once(cli, backend):
    backend.script(*[refusal(429, LIMIT)] * 8)
    done = cli("hello")
    assert done.returncode != 0 and "The limit is reached." in done.stdout + done.stderr


def test_a_bad_request_is_told_at_once(cli, backend):
    backend.script(*[refusal(400, {"detail": "The weather is not supported."})] * 2)
    done = cli("hello")
    assert done.returncode != 0 and "The weather is not supported." in done.stdout + done.stderr


def test_a_stream_that_is_cut_is_tried_again(cli, backend):
    backend.script(reply(text("half an answer", chunks=4), cut_after=5), reply(text("A whole answer.")))
    done = cli("hello")
    assert done.stdout.strip().endswith("A whole answer."), done.stdout + done.stderr
