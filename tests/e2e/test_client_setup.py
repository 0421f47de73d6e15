"""``floway setup``: the real agents answer through the gateway after this one command, in an empty home folder."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from floway_codex.simulator import Simulator, reply, text

from floway_core.testing.gateway import RunningGateway

CLIENTS = os.environ.get("FLOWAY_TEST_CLIENT_SETUPS")

pytestmark = pytest.mark.skipif(
    not CLIENTS, reason="FLOWAY_TEST_CLIENT_SETUPS is not set: `make test-clients` installs the agents"
)

AGENTS = {
    "codex 0.142.0": ("0.142.0", "codex", ["exec", "--skip-git-repo-check", "hello"]),
    "codex 0.171.0": ("0.171.0", "codex", ["exec", "--skip-git-repo-check", "hello"]),
    "claude": ("claude", "claude", ["--print", "hello"]),
    "gemini": ("gemini", "gemini", ["--prompt", "hello"]),
    "opencode": ("opencode", "opencode", ["run", "hello"]),
}
"""The folder of each agent, its program, and the arguments that ask a question without a terminal."""

ENVIRON = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "GEMINI_CLI_TRUST_WORKSPACE": "true", "IS_SANDBOX": "1"}
"""What the agents need in a test, whatever they are connected to."""

EXISTING = {
    "codex": (
        ".codex/config.toml",
        '# mine\nmodel = "other"  # a choice\n\n[mcp_servers.docs]\ncommand = "docs" # kept\n',
    ),
    "claude": (".claude/settings.json", '{\n  "env": {"MINE": "1"},\n  "permissions": {"allow": ["Bash(ls)"]}\n}\n'),
    "gemini": (".gemini/settings.json", '{\n  // mine\n  "ui": {"theme": "GitHub"}, // kept\n}\n'),
    "opencode": (
        ".config/opencode/opencode.jsonc",
        '{\n  // mine\n  "theme": "nord", /* kept */\n  "model": "a/b"\n}\n',
    ),
}


@pytest.fixture(scope="module")
def backend():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def gateway(backend, tmp_path_factory):
    settings = {"codex_base_url": backend.base_url, "codex_auth_url": backend.auth_url, "codex_transport": "http"}
    with RunningGateway(settings, installed=["anthropic", "codex", "gemini", "openai"]) as running:
        auth_file = tmp_path_factory.mktemp("auth") / "auth.json"
        auth_file.write_text(json.dumps(backend.new_account()))
        assert running.run("codex", "import", str(auth_file)).returncode == 0
        yield running


def set_up(gateway, home, client, *arguments):
    home.mkdir(exist_ok=True)
    command = ["setup", client, "--url", gateway.url, "--model", "gpt-5.5", "--write", *arguments]
    return gateway.run(*command, environ={"HOME": str(home)})


@pytest.mark.parametrize("agent", AGENTS)
def test_the_agent_answers(gateway, backend, tmp_path, agent):
    folder, program, arguments = AGENTS[agent]
    home = tmp_path / "home"
    backend.clear()
    backend.script(*[reply(text("Hello from the model.")) for _ in range(4)])  # some ask for a title, too
    done = set_up(gateway, home, program, "--key", agent, "--yes", "--check")
    assert done.returncode == 0 and "ok      POST" in done.stdout, done.stdout + done.stderr
    work = tmp_path / "work"
    work.mkdir()
    answered = subprocess.run(
        [Path(CLIENTS, folder, "node_modules/.bin", program), *arguments],
        env={"HOME": str(home), "PATH": os.environ["PATH"], "TERM": "xterm-256color", **ENVIRON},
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert answered.returncode == 0, answered.stderr
    assert "Hello from the model." in answered.stdout
    assert "gpt-5.5" in {request.body["model"] for request in backend.dispatches}


@pytest.mark.parametrize("client", EXISTING)
def test_what_is_there_stays(gateway, tmp_path, client):
    name, before = EXISTING[client]
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text(before)
    done = set_up(gateway, tmp_path, client, "--key", f"{client} of {tmp_path.name}", "--yes")
    assert done.returncode == 0, done.stderr
    after = file.read_text()
    for kept in ("mine", "kept", "MINE", "Bash(ls)", "theme", "mcp_servers.docs"):
        assert (kept in before) is (kept in after)
    assert gateway.url in "".join(one.read_text() for one in file.parent.glob("*") if ".bak" not in one.name)
    (backup,) = [one for one in file.parent.iterdir() if one.name.startswith(f"{file.name}.")]
    assert backup.read_text() == before
    again = set_up(gateway, tmp_path, client, "--key", f"{client} of {tmp_path.name}", "--yes")
    assert again.returncode == 0 and "set up already" in again.stdout
