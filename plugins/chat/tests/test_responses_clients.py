"""Real clients of the Responses API on an upstream that speaks Chat Completions."""

import json
import os
import subprocess
from pathlib import Path

import openai
import pytest

from floway_core.testing import Reply

from .server_streams import STOP, TOOLS, calls, chunk, entry

CODEX_CLIS = os.environ.get("FLOWAY_TEST_CODEX_CLIS")

CODEX_CONFIG = """
model = "model-1"
model_provider = "floway"
check_for_update_on_startup = false

[model_providers.floway]
name = "Floway"
base_url = "{url}/v1"
env_key = "FLOWAY_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


@pytest.fixture
def sdk(chat_gateway, server):
    server.forget()
    with openai.OpenAI(
        base_url=f"{chat_gateway.url}/v1", api_key=chat_gateway.key, max_retries=0, timeout=20
    ) as client:
        yield client


def test_the_openai_package(sdk, server):
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    server.script(
        Reply([chunk({"reasoning_content": "Hm."}), calls(entry(0, "call_a", "weather", '{"city": "Bonn"}')), *TOOLS]),
        Reply([chunk("It is "), chunk("sunny."), *STOP]),
    )
    with sdk.responses.stream(model="model-1", input="Weather?", tools=[tool]) as stream:
        kinds = {event.type for event in stream}
        first = stream.get_final_response()
    assert {"response.reasoning_text.delta", "response.function_call_arguments.done"} <= kinds
    (call,) = [item for item in first.output if item.type == "function_call"]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
    second = sdk.responses.create(model="model-1", input=[output], previous_response_id=first.id)
    assert second.output_text == "It is sunny." and second.usage.total_tokens == 12
    messages = json.loads(server.requests[-1].body)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]


@pytest.mark.skipif(not CODEX_CLIS, reason="FLOWAY_TEST_CODEX_CLIS is not set: `make test-clients` installs them")
@pytest.mark.parametrize("version", ["0.142.0", "0.169.0"])
def test_the_codex_cli(chat_gateway, server, tmp_path, version):
    """It runs a command, patches a file with its custom tool where it has one, and answers."""
    server.forget()
    program = Path(CODEX_CLIS, version, "node_modules/.bin/codex")
    if not program.exists():
        pytest.skip(f"the Codex CLI {version} is not installed")
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex/config.toml").write_text(CODEX_CONFIG.format(url=chat_gateway.url))
    command = '{"cmd": "echo from-$((40 + 2))"}'
    server.script(
        Reply([chunk("I run it."), calls(entry(0, "call_a", "exec_command", command)), *TOOLS]),
        Reply([chunk("The command is "), chunk("done."), *STOP]),
    )
    environ = {"HOME": str(tmp_path), "CODEX_HOME": str(tmp_path / ".codex"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [program, "exec", "--skip-git-repo-check", "run it"],
        env={**environ, "FLOWAY_API_KEY": chat_gateway.key},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "The command is done." in done.stdout
    first, second = (json.loads(request.body) for request in server.requests)
    assert first["messages"][0]["role"] == "system" and first["messages"][-1]["role"] == "user"
    assert all(tool["type"] == "function" for tool in first["tools"])
    tool_message = second["messages"][-1]
    assert tool_message["role"] == "tool" and "from-42" in tool_message["content"]
    assert second["messages"][-2]["tool_calls"][0]["id"] == tool_message["tool_call_id"] == "call_a"
