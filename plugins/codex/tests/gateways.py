"""Gateways in front of a simulated backend, for tests through the outermost entry."""

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floway_codex.simulator import RecordedRequest, Simulator
from floway_codex.wire.profile import load_profiles

from floway_core.storage import keys
from floway_core.storage.db import connect
from floway_core.testing import ApiClient, ApiResponse, Installation, RunningGateway

MODEL = "gpt-5.5"
SECRET_KEY = "the secret key of gateways that share a database"


def settings(simulator: Simulator, **more: str) -> dict[str, str]:
    """Settings that lead to the simulated backend, with POSTs unless ``more`` says otherwise."""
    urls = {"codex_base_url": simulator.base_url, "codex_auth_url": simulator.auth_url}
    return {**urls, "codex_transport": "http", **more}


def start(simulator: Simulator, **more: str) -> RunningGateway:
    """A running gateway without an account."""
    return RunningGateway(settings(simulator, **more), installed=["codex"])


def on_database(simulator: Simulator, url: str, **more: str) -> RunningGateway:
    """A running gateway on a database that others use, too."""
    gateway = start(simulator, database_url=url, secret_key=SECRET_KEY, **more)
    run_sql(url, "UPDATE api_keys SET name = hint WHERE name = 'test'")  # the next gateway makes one of this name
    return gateway


def run_sql(url: str, statement: str) -> list[tuple]:
    database = connect(url)
    with database.connection_context():
        cursor = database.execute_sql(statement)
        rows = cursor.fetchall() if cursor.description else []
    database.close_all()
    return rows


def import_account(installation: Installation, auth_json: dict[str, Any], *more: str) -> None:
    file = installation.folder / "auth.json"
    file.write_text(json.dumps(auth_json))
    done = installation.run("codex", "import", str(file), *more)
    assert done.returncode == 0, done.stderr
    file.unlink()


def wait_for(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    """Wait until a condition holds that nothing reports."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def create_key(gateway: Installation) -> str:
    """A further API key, without starting a process for it."""
    database = connect(f"sqlite:///{gateway.database}")
    try:
        return keys.create(database, uuid.uuid4().hex)
    finally:
        database.close_all()


def keep_models(gateway: Installation, age: int = 0) -> None:
    """Store a model list as if the backend had been asked so many seconds ago; just now, and it is not asked."""
    body, newest = json.dumps({"models": [{"slug": MODEL}]}), list(load_profiles())[-1]
    run_sql(
        f"sqlite:///{gateway.database}",
        "INSERT INTO codex_catalogue (upstream_id, client_version, fetched_at, etag, body) "
        f"SELECT upstream_id, '{newest}', {int(time.time()) - age}, '', '{body}' FROM codex_accounts",
    )


def caller(gateway: RunningGateway) -> ApiClient:
    return ApiClient(gateway.url, gateway.key)


def ask(gateway: RunningGateway) -> ApiResponse:
    """One answer, read to its end."""
    exchange = caller(gateway).create(model=MODEL)
    assert exchange.body is not None
    return exchange


def answer_of(exchange: ApiResponse) -> tuple[int, str]:
    """Status, and the text of the answer or the message of the error."""
    body = json.loads(exchange.received)
    if exchange.status == 200:
        return 200, body["output"][0]["content"][0]["text"]
    return exchange.status, body["error"]["message"]


def status(installation: Installation) -> list[dict[str, Any]]:
    done = installation.run("codex", "status", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Front:
    """Both sides of a gateway: what a client sends to it, and what the backend gets then."""

    simulator: Simulator
    gateway: RunningGateway

    def send(self, body: dict[str, Any], headers: Mapping[str, str] = {}, path: str = "/v1/responses") -> ApiResponse:
        """Send a request with exactly these headers, underscores and all, beside the usual ones."""
        content = json.dumps({"model": MODEL, **body}).encode()
        return caller(self.gateway).send("POST", path, content, {"content-type": "application/json", **headers})

    def ask(self, headers: Mapping[str, str] = {}, path: str = "/v1/responses", **body: Any) -> dict[str, Any]:
        """The answer to a request that has to succeed."""
        answer = self.send({"input": "Hi", **body}, headers, path)
        assert answer.status == 200, answer.body
        return answer.json()

    def sent(self, headers: Mapping[str, str] = {}, **body: Any) -> RecordedRequest:
        """What the backend gets of such a request; all other dispatches are forgotten."""
        self.simulator.clear()
        self.ask(headers, **body)
        (request,) = self.simulator.dispatches
        return request


def ids(request: RecordedRequest) -> dict[str, str]:
    """The ids of a dispatch; fails where headers, ``client_metadata`` and turn metadata disagree."""
    client, metadata = request.body["client_metadata"], json.loads(request.header("x-codex-turn-metadata"))
    assert client["x-codex-turn-metadata"] == request.header("x-codex-turn-metadata")
    surfaces = {
        "session": (request.header("session-id"), client["session_id"], metadata["session_id"]),
        "thread": (request.header("thread-id"), client["thread_id"], metadata["thread_id"]),
        "window": (request.header("x-codex-window-id"), client["x-codex-window-id"], metadata["window_id"]),
        "turn": (client["turn_id"], metadata["turn_id"]),
        "installation": (client["x-codex-installation-id"], metadata["installation_id"]),
        "client_request": (request.header("x-client-request-id"),),
    }
    assert all(len(set(found)) == 1 for found in surfaces.values()), surfaces
    return {name: found[0] for name, found in surfaces.items()}


def bare(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Input items without the ids, states and empty fields that those of the CLI have."""
    return [
        {
            key: [{name: one for name, one in part.items() if one != []} for part in value]
            if key == "content" and isinstance(value, list)
            else value
            for key, value in item.items()
            if key not in ("id", "status") and (key, value) != ("content", None)
        }
        for item in items
    ]


def user(said: str) -> dict[str, Any]:
    """A message of the user."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": said}]}


def run_each(installation: Installation, commands: list[list[str]]) -> list[tuple[int, str, str]]:
    """Run ``floway`` with each of these arguments.

    :returns: status, standard output and standard error of each.
    """
    ends = [installation.run(*command) for command in commands]
    return [(done.returncode, done.stdout, done.stderr) for done in ends]
