"""Real chat clients through the gateway: llm, aider and the openai package for Node, as npm and PyPI have them."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from floway_codex.simulator import function_call, reasoning, reply, text

from floway_core.testing import Reply

from .server_streams import STOP, TOOLS, calls, chunk, entry
from .test_reasoning import MODEL, blobs, inputs
from .upstreams import as_json

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


def llm_on(gateway, model, folder):
    """Return what runs llm with a model of the gateway."""
    (folder / "extra-openai-models.yaml").write_text(LLM_MODELS.format(model=model, url=gateway.url))
    (folder / "keys.json").write_text(json.dumps({"floway": gateway.key}))
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LLM_USER_PATH": str(folder)}
    return lambda *arguments: run(Path(INSTALLED, "llm/bin/llm"), "-m", "floway", *arguments, env=environ)


def let_aider_edit(gateway, model, folder):
    """Have aider replace the text of a poem, whose first answer is ``AIDER_ANSWER``; return text and commit."""
    (folder / "poem.txt").write_text("roses\n")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENAI_API_BASE": f"{gateway.url}/v1",
        "OPENAI_API_KEY": gateway.key,
        **{f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    for command in ("init --quiet", "add poem.txt", "commit --quiet --message Begin"):
        run("git", *command.split(), cwd=folder, env=environ)
    switches = "--yes-always --no-check-update --no-show-model-warnings --no-analytics --map-tokens 0"
    options = (*switches.split(), "--model", f"openai/{model}", "--weak-model", f"openai/{model}")
    aider = Path(INSTALLED, "aider-chat/bin/aider")
    instruction = ("--edit-format", "whole", "--message", "Make it violets.", "poem.txt")
    run(aider, *options, *instruction, cwd=folder, env=environ)
    return (folder / "poem.txt").read_text(), run("git", "log", "--format=%s", cwd=folder)


def run_node_client(gateway, model):
    """Run the script for the openai package for Node; return what it prints."""
    script = Path(INSTALLED, "node/client.mjs")  # it finds its packages beside itself
    script.write_text((HERE / "openai_client.mjs").read_text())
    return json.loads(run("node", script, f"{gateway.url}/v1", gateway.key, model))


AIDER_ANSWER = "I change it.\n\npoem.txt\n```\nviolets\n```\n"


# ------------------------------------------------------------------------------------------------------ Codex backend
@pytest.fixture
def llm(running, tmp_path):
    return llm_on(running, MODEL, tmp_path)


def test_llm(backend, llm):
    backend.script(reply(reasoning("Hm.", "BLOB-1"), text("Paris.")), reply(text("Rome.")))
    assert "Paris." in llm("Capital of France? (llm)")
    assert "Rome." in llm("-c", "Of Italy?")
    assert blobs(inputs(backend)[-1]) == ["BLOB-1"]


def test_llm_with_a_tool(backend, llm):
    backend.script(reply(reasoning("Hm.", "BLOB-1"), function_call("double", {"x": 21})), reply(text("It is 42.")))
    source = "def double(x: int) -> int:\n    return 2 * x"
    assert "It is 42." in llm("--functions", source, "Double 21 (llm).")
    sent = inputs(backend)[-1]
    assert blobs(sent) == ["BLOB-1"] and "42" in json.dumps(sent[-1])


def test_llm_with_a_schema(backend, llm):
    backend.script(reply(text('{"name": "Ulm", "size": 7}')))
    assert json.loads(llm("--schema", "name, size int", "A city (llm)."))["name"] == "Ulm"
    assert backend.dispatches[-1].body["text"]["format"]["type"] == "json_schema"


def test_aider(backend, running, tmp_path):
    backend.script(reply(text(AIDER_ANSWER, chunks=5)), reply(text("docs: Replace the roses")))
    poem, subjects = let_aider_edit(running, MODEL, tmp_path)
    assert poem == "violets\n" and "Replace the roses" in subjects
    assert len(backend.dispatches) == 2


NODE_RESULT = {
    "looked": [7],
    "text": "Seen.",
    "streamed": "Hello there.",
    "refused": {"status": 400, "param": "messages[0].content"},
}


def test_the_openai_package_for_node(backend, running):
    backend.script(
        reply(reasoning("Hm.", "BLOB-1"), function_call("look", {"at": 7}, chunks=3)),
        reply(text("Seen.")),
        reply(text("Hello there.", chunks=4)),
    )
    told = run_node_client(running, MODEL)
    assert told.pop("tokens") > 0 and told == NODE_RESULT
    assert blobs(inputs(backend)[1]) == ["BLOB-1"]


# -------------------------------------------------------------------------------------------------------- chat server
def test_llm_on_a_chat_server(caller, server, chat_gateway, tmp_path):
    call = calls(entry(0, "call_a", "double", '{"x": 21}'))
    server.script(Reply([call, *TOOLS]), Reply([chunk("It is "), chunk("42."), *STOP]))
    source = "def double(x: int) -> int:\n    return 2 * x"
    assert "It is 42." in llm_on(chat_gateway, "model-1", tmp_path)("--functions", source, "Double 21.")
    assert json.loads(server.requests[-1].body)["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "call_a",
        "content": "42",
    }


def test_aider_on_a_chat_server(caller, server, chat_gateway, tmp_path):
    subject = {"choices": [{"message": {"content": "docs: Replace the roses"}, "finish_reason": "stop"}]}
    server.script(Reply([chunk(AIDER_ANSWER), *STOP]), as_json({**subject, "object": "chat.completion"}))
    poem, subjects = let_aider_edit(chat_gateway, "model-1", tmp_path)
    assert poem == "violets\n" and "Replace the roses" in subjects


def test_the_openai_package_for_node_on_a_chat_server(caller, server, chat_gateway):
    role = chunk({"role": "assistant", "content": ""})  # the package insists on it
    server.script(
        Reply(
            [
                role,
                calls(entry(0, "call_a", "look", '{"at"', type="function")),
                calls(entry(0, arguments=": 7}")),
                *TOOLS,
            ]
        ),
        Reply([role, chunk("Seen."), *STOP]),
        Reply([role, chunk("Hello "), chunk("there."), *STOP]),
        # What is wrong in a request is for the server to say, which may understand more than the gateway.
        as_json({"error": {"message": "Not a text.", "param": "messages[0].content"}}, 400),
    )
    told = run_node_client(chat_gateway, "model-1")
    assert told.pop("tokens") == 12 and told == NODE_RESULT
