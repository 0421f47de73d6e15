"""Real chat clients through the gateway: llm, aider and the openai package for Node, as npm and PyPI have them."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from floway_codex.simulator import function_call, reasoning, reply, text

from .test_reasoning import MODEL, blobs, inputs

HERE = Path(__file__).parent / "clients"
INSTALLED = os.environ.get("FLOWAY_TEST_CHAT_CLIENTS")

pytestmark = pytest.mark.skipif(
    not INSTALLED, reason="FLOWAY_TEST_CHAT_CLIENTS is not set: `make test-clients` installs the clients"
)

LLM_MODELS = """
- model_id: floway
  model_name: {model}
  api_base: {url}/v1
  api_key_name: floway
  supports_tools: true
  supports_schema: true
"""


def run(*command, **options):
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def llm(running, tmp_path):
    """Runs llm with the gateway's model as default."""
    (tmp_path / "extra-openai-models.yaml").write_text(LLM_MODELS.format(model=MODEL, url=running.url))
    (tmp_path / "keys.json").write_text(json.dumps({"floway": running.key}))
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LLM_USER_PATH": str(tmp_path)}
    return lambda *arguments: run(Path(INSTALLED, "llm/bin/llm"), *arguments, env=environ)


def test_llm(backend, llm):
    backend.script(reply(reasoning("Hm.", "BLOB-1"), text("Paris.")), reply(text("Rome.")))
    assert "Paris." in llm("-m", "floway", "Capital of France? (llm)")
    assert "Rome." in llm("-m", "floway", "-c", "Of Italy?")
    assert blobs(inputs(backend)[-1]) == ["BLOB-1"]


def test_llm_with_a_tool(backend, llm):
    backend.script(reply(reasoning("Hm.", "BLOB-1"), function_call("double", {"x": 21})), reply(text("It is 42.")))
    source = "def double(x: int) -> int:\n    return 2 * x"
    assert "It is 42." in llm("-m", "floway", "--functions", source, "Double 21 (llm).")
    sent = inputs(backend)[-1]
    assert blobs(sent) == ["BLOB-1"] and "42" in json.dumps(sent[-1])


def test_llm_with_a_schema(backend, llm):
    backend.script(reply(text('{"name": "Ulm", "size": 7}')))
    assert json.loads(llm("-m", "floway", "--schema", "name, size int", "A city (llm)."))["name"] == "Ulm"
    assert backend.dispatches[-1].body["text"]["format"]["type"] == "json_schema"


def test_aider(backend, running, tmp_path):
    file = tmp_path / "poem.txt"
    file.write_text("roses\n")
    answer = "I change it.\n\npoem.txt\n```\nviolets\n```\n"
    backend.script(reply(text(answer, chunks=5)), reply(text("docs: Replace the roses")))
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENAI_API_BASE": f"{running.url}/v1",
        "OPENAI_API_KEY": running.key,
        **{f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    for command in ("init --quiet", "add poem.txt", "commit --quiet --message Begin"):
        run("git", *command.split(), cwd=tmp_path, env=environ)
    switches = "--yes-always --no-check-update --no-show-model-warnings --no-analytics --map-tokens 0"
    model = ("--model", f"openai/{MODEL}", "--weak-model", f"openai/{MODEL}")
    aider = Path(INSTALLED, "aider-chat/bin/aider")
    run(
        aider,
        *switches.split(),
        *model,
        "--edit-format",
        "whole",
        "--message",
        "Make it violets.",
        "poem.txt",
        cwd=tmp_path,
        env=environ,
    )
    assert file.read_text() == "violets\n"
    assert "Replace the roses" in run("git", "log", "--format=%s", cwd=tmp_path)
    assert len(backend.dispatches) == 2


def test_the_openai_package_for_node(backend, running):
    backend.script(
        reply(reasoning("Hm.", "BLOB-1"), function_call("look", {"at": 7}, chunks=3)),
        reply(text("Seen.")),
        reply(text("Hello there.", chunks=4)),
    )
    # It finds its packages beside itself.
    script = Path(INSTALLED, "node/client.mjs")
    script.write_text((HERE / "openai_client.mjs").read_text())
    told = json.loads(run("node", script, f"{running.url}/v1", running.key, MODEL))
    assert told.pop("tokens") > 0
    assert told == {
        "looked": [7],
        "text": "Seen.",
        "streamed": "Hello there.",
        "refused": {"status": 400, "param": "messages[0].content"},
    }
    assert blobs(inputs(backend)[1]) == ["BLOB-1"]
