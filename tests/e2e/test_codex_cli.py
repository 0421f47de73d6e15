"""The real Codex CLI, through the gateway, to the simulated backend."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from floway_codex.simulator import Simulator, compaction, function_call, html_403, refusal, reply, text

from floway_core.testing.gateway import RunningGateway

VERSIONS = ("0.142.0", "0.171.0")
CLIS = os.environ.get("FLOWAY_TEST_CODEX_CLIS")

pytestmark = pytest.mark.skipif(not CLIS, reason="FLOWAY_TEST_CODEX_CLIS is not set: `make test-clients` installs them")

CONFIG = """
model = "gpt-5.5"
model_provider = "floway"
check_for_update_on_startup = false

[model_providers.floway]
name = "Floway"
base_url = "{url}/v1"
env_key = "FLOWAY_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 1
supports_websockets = {websockets}
"""
POST, WEBSOCKET = "post", "websocket"


CASES = tuple(zip(itertools.product(VERSIONS, (POST, WEBSOCKET)), ("auto", "http", "http", "auto"), strict=True))
"""(version, transport of the CLI) and the gateway's setting: each pair of two occurs, which is half of all cases."""


@pytest.fixture(scope="module")
def backend():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def gateways(backend, tmp_path_factory):
    """Gateways by what they send over, each with an account of its own."""
    urls = {"codex_base_url": backend.base_url, "codex_auth_url": backend.auth_url}
    with contextlib.ExitStack() as stack:
        found = {}
        for setting in ("auto", "http"):
            settings = {**urls, "codex_transport": setting}
            found[setting] = running = stack.enter_context(RunningGateway(settings, installed=["codex"]))
            auth_file = tmp_path_factory.mktemp("auth") / "auth.json"
            auth_file.write_text(json.dumps(backend.new_account()))
            assert running.run("codex", "import", str(auth_file)).returncode == 0
        yield found


@pytest.fixture(params=CASES, ids=lambda case: "-".join([*case[0], case[1]]))
def case(request):
    return request.param


@pytest.fixture
def gateway(gateways, case):
    return gateways[case[1]]


@pytest.fixture
def codex(case, gateway, backend, tmp_path):
    """Runs ``codex exec`` of one version, configured as the README says, and returns what it printed."""
    backend.clear()
    (version, transport), upstream = case
    log_start = len(gateway.log)
    home = tmp_path / "home"
    (home / ".codex").mkdir(parents=True)
    (home / ".codex/config.toml").write_text(
        CONFIG.format(url=gateway.url, websockets=json.dumps(transport == WEBSOCKET))
    )
    environ = {
        "HOME": str(home),
        "CODEX_HOME": str(home / ".codex"),
        "PATH": os.environ["PATH"],
        "TERM": "xterm-256color",
        "FLOWAY_API_KEY": gateway.key,
    }
    program = Path(CLIS, version, "node_modules/.bin/codex")

    def run(*arguments):
        return subprocess.run(
            [program, "exec", "--skip-git-repo-check", *arguments],
            env=environ,
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    run.version, run.program, run.environ, run.home, run.transport = version, program, environ, home, transport
    run.upstream = upstream
    yield run
    assert (backend.dispatches if upstream == "auto" else backend.frames) == []
    if logged := gateway.log[log_start:]:
        assert ("GET /v1/responses 101" in logged) is (transport == WEBSOCKET)
    assert backend.findings == [], "over all its requests the session looks wrong"


def last_input(backend):
    return backend.turns[-1].body["input"]


def test_a_turn_with_a_tool_call(codex, backend):
    backend.script(
        reply(function_call("exec_command", {"cmd": "echo from-$((40 + 2))"})), reply(text("The command is done."))
    )
    done = codex("run it")
    assert done.returncode == 0, done.stderr
    assert "The command is done." in done.stdout
    assert [request.status for request in backend.turns] == [200, 200]
    outputs = [item for item in last_input(backend) if item["type"] == "function_call_output"]
    assert "from-42" in json.dumps(outputs), outputs
    first, second = backend.turns
    assert first.header("session-id") == second.header("session-id")
    assert f"/{codex.version} " in second.header("user-agent")
    assert first.body["client_metadata"]["turn_id"] == second.body["client_metadata"]["turn_id"]


def test_its_own_provider_with_a_floway_key_uses_a_websocket(codex, backend, gateway):
    if codex.transport == POST:
        pytest.skip("it always tries a WebSocket")
    (codex.home / ".codex/config.toml").write_text(f'model = "gpt-5.5"\nopenai_base_url = "{gateway.url}/v1"\n')
    login = [codex.program, "login", "--with-api-key"]
    done = subprocess.run(login, env=codex.environ, input=gateway.key, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    start = len(gateway.log)
    backend.script(reply(function_call("exec_command", {"cmd": "echo from-$((40 + 2))"})), reply(text("All done.")))
    done = codex("run it")
    assert "All done." in done.stdout, done.stderr
    outputs = [item for item in last_input(backend) if item["type"] == "function_call_output"]
    assert "from-42" in json.dumps(outputs), outputs
    assert gateway.log[start:].count("GET /v1/responses 101") == 1


def test_a_resumed_session_keeps_its_identity(codex, backend):
    backend.script(reply(text("First.")), reply(text("Second.")))
    assert codex("begin").returncode == 0
    done = codex("resume", "--last", "go on")
    assert "Second." in done.stdout, done.stderr
    first, second = backend.turns
    assert first.header("session-id") == second.header("session-id")
    assert first.body["client_metadata"]["turn_id"] != second.body["client_metadata"]["turn_id"]
    assert "First." in json.dumps(second.body["input"])


def test_an_expired_token_is_renewed_unseen(codex, backend):
    backend.expire_access_tokens()
    backend.script(reply(text("Still here.")))
    done = codex("hello")
    assert "Still here." in done.stdout, done.stderr
    asked = backend.turns if codex.upstream == "http" else backend.upgrades
    assert [request.status for request in asked] == [401, 200 if codex.upstream == "http" else 101]


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (html_403(), "403"),
        (refusal(400, {"detail": "The weather is not supported."}), "The weather is not supported."),
    ],
)
def test_refusals_reach_the_user(codex, backend, answer, shown):
    backend.script(*[answer] * 8)
    done = codex("hello")
    assert done.returncode != 0
    assert shown in done.stdout + done.stderr


def test_a_used_up_quota_is_told_in_the_clients_own_words(codex, backend, gateway):
    account = json.loads(gateway.run("codex", "status", "--json").stdout)[0]["account_id"]
    backend.use_up_quota(account, resets_in=3600)
    try:
        done = codex("hello")
    finally:
        backend.restore_quota(account)
    assert done.returncode != 0
    assert "usage limit" in (done.stdout + done.stderr).lower()
    assert len(backend.turns) == 1, "the client must not retry"


def test_a_stream_that_is_cut_is_tried_again(codex, backend):
    backend.script(reply(text("half an answer"), cut_after=4), reply(text("A whole answer.")))
    done = codex("hello")
    assert "A whole answer." in done.stdout, done.stderr


COMPACT_EARLY = [
    *("-c", "model_context_window=100000", "-c", "model_auto_compact_token_limit=20000"),
    *("-c", 'model_providers.floway.name="OpenAI"'),  # else the CLI asks the model for a summary
]


def windows(backend):
    return [request.header("x-codex-window-id").rpartition(":")[2] for request in backend.turns]


def kinds(backend):
    return [json.loads(request.header("x-codex-turn-metadata"))["request_kind"] for request in backend.turns]


def test_a_compaction_in_the_middle_of_a_turn(codex, backend):
    backend.script(
        reply(function_call("exec_command", {"cmd": "echo hi"}), total_tokens=50_000),
        reply(compaction("BLOB")),
        reply(text("Done after all.")),
    )
    done = codex("run it", *COMPACT_EARLY)
    assert "Done after all." in done.stdout, done.stderr
    assert kinds(backend) == ["turn", "compaction", "turn"]
    assert windows(backend) == ["0", "0", "1"]
    assert backend.turns[1].body["input"][-1] == {"type": "compaction_trigger"}
    assert "BLOB" in json.dumps(last_input(backend))
    assert len({request.body["client_metadata"]["turn_id"] for request in backend.turns}) == 1


def test_a_compaction_before_a_turn(codex, backend):
    backend.script(reply(text("One."), total_tokens=50_000), reply(compaction("BLOB")), reply(text("Two.")))
    assert codex(*COMPACT_EARLY, "begin").returncode == 0
    done = codex(*COMPACT_EARLY, "resume", "--last", "go on")
    assert "Two." in done.stdout, done.stderr
    assert kinds(backend) == ["turn", "compaction", "turn"]
    assert windows(backend) == ["0", "0", "1"]
    assert "BLOB" in json.dumps(last_input(backend)) and "One." not in json.dumps(last_input(backend))


@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")
def test_a_compaction_by_hand(codex, backend, tmp_path):
    if codex.version != "0.142.0":
        pytest.skip("newer TUIs show news and ask for titles in between; their recordings cover this")
    project = codex.home / "project"
    project.mkdir()
    with (codex.home / ".codex/config.toml").open("a") as config:
        config.write(f'\n[projects."{project}"]\ntrust_level = "trusted"\n')
    backend.script(reply(text("One.")), reply(compaction("BLOB")), reply(text("Two.")))

    def tmux(*words):
        command = ["tmux", "-S", str(tmp_path / "tmux"), *words]
        return subprocess.run(command, capture_output=True, text=True, env=codex.environ).stdout

    def screen_shows(*wanted):
        deadline = time.monotonic() + 45
        while not any(word in (shown := tmux("capture-pane", "-p")) for word in wanted):
            assert time.monotonic() < deadline, shown
            time.sleep(0.1)

    def type_in(line):
        tmux("send-keys", "-l", line)
        screen_shows(line)
        tmux("send-keys", "Enter")

    tmux(
        "-f",
        "/dev/null",
        "new-session",
        "-d",
        "-x",
        "120",
        "-y",
        "40",
        "-c",
        str(project),
        codex.program,
        *COMPACT_EARLY[-2:],
    )
    try:
        screen_shows("\u203a")
        type_in("begin now")
        screen_shows("One.")
        type_in("/compact")
        screen_shows("ompacted")
        type_in("and go on")
        screen_shows("Two.")
    finally:
        tmux("kill-server")
    sent = [request for request in backend.turns if request.body["model"] == "gpt-5.5"]
    told = [json.loads(request.header("x-codex-turn-metadata")) for request in sent]
    assert [one["request_kind"] for one in told] == ["turn", "compaction", "turn"]
    assert told[1]["compaction"]["trigger"] == "manual"
    assert [one["window_id"].rpartition(":")[2] for one in told] == ["0", "0", "1"]
    assert len({one["turn_id"] for one in told}) == 3
