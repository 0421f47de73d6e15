"""``floway codex demo``: a client, the gateway and the simulated backend, end to end and without an account."""

import json
import sqlite3

import click
import requests

from floway_codex.simulator import RecordedRequest, Reply, Simulator, reply, text
from floway_core.testing.gateway import RunningGateway

MODEL = "gpt-5.5"
ANSWER = (
    "This answer was streamed by a simulated Codex backend. It took the request because it looked just like one of the "
    "official CLI: the same headers in the same order, the same metadata, and the account of the operator."
)
MAX_SHOWN = 74
"""Characters of a header's value that are shown."""


def run() -> None:
    """Show the demo on the terminal.

    :raises click.ClickException: a step failed.
    """
    with Simulator() as backend:
        _say(f"A simulated Codex backend runs at {backend.base_url}.")
        settings = {"codex_base_url": backend.base_url, "codex_auth_url": backend.auth_url}
        with RunningGateway(settings, installed=["codex"]) as gateway:
            _say(f"Floway runs at {gateway.url}: gunicorn, with SQLite in {gateway.data_dir}.")
            auth_file = gateway.folder / "auth.json"
            auth_file.write_text(json.dumps(backend.new_account(email="you@example.com")))
            _check(gateway.run("codex", "import", str(auth_file)).returncode == 0, "the account was not imported")
            _say("A generated account was imported: floway codex import auth.json")
            click.echo(gateway.run("codex", "status").stdout)
            backend.script(_reply(ANSWER), _reply("You asked for a stream, and then what it was about."))
            first = _ask(gateway, "Show me a stream.")
            _ask(gateway, "What did I ask for?", previous_response_id=first)
            _show_upstream(backend.frames)
            _show_stored(gateway)
    _say("This is the end of the demo. The README continues with your own account.")


def _reply(content: str) -> Reply:
    return reply(text(content, chunks=24, delay=0.02))


def _ask(gateway: RunningGateway, question: str, **more: str) -> str:
    """Stream an answer to the terminal, and return the id of the response."""
    body = {"model": MODEL, "input": question, "stream": True, **more}
    shown = json.dumps(body)
    _say(f"POST /v1/responses {shown if len(shown) < 120 else shown[:117] + '...'}")
    headers = {"authorization": f"Bearer {gateway.key}"}
    response_id = ""
    with requests.post(f"{gateway.url}/v1/responses", json=body, headers=headers, stream=True, timeout=30) as answer:
        _check(answer.status_code == 200, f"the gateway answered {answer.status_code}")
        for line in answer.iter_lines():
            event = json.loads(line[6:]) if line.startswith(b"data: {") else {}
            if event.get("type") == "response.output_text.delta":
                click.echo(event["delta"], nl=False)
            elif event.get("type") == "response.completed":
                response_id = event["response"]["id"]
    click.echo("\n")
    _check(bool(response_id), "the stream did not complete")
    return response_id


def _show_upstream(seen: list[RecordedRequest]) -> None:
    """Show the last frame, and the upgrade of its connection."""
    _say("What the backend saw (the fingerprint of the official CLI): a WebSocket, and the second request in a frame:")
    _check(bool(seen), "no frame reached the backend")
    request = seen[-1]
    click.echo(f"  GET {request.path}")
    for name, value in request.headers:
        shown = "Bearer ..." if name == "authorization" else value
        click.echo(f"  {name}: {shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + '...'}")
    click.echo(f"  frame: {', '.join(request.body)}")
    click.echo(
        f"  input: {len(request.body['input'])} item, because the connection knows question and answer before it\n"
    )
    _check(len(request.body["input"]) == 1 and len(request.whole["input"]) == 3, "the conversation was not continued")


def _show_stored(gateway: RunningGateway) -> None:
    _say("What Floway stored:")
    with sqlite3.connect(gateway.database) as database:
        for table in ("api_keys", "upstreams", "codex_accounts", "responses_snapshots", "responses_items"):
            rows = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            click.echo(f"  {rows} in {table}")
        hashed = database.execute("SELECT key_hash FROM api_keys").fetchone()[0]
        sealed = database.execute("SELECT refresh_token FROM codex_credentials").fetchone()[0]
    click.echo(f"  the API key as a hash: {hashed[:20]}..., the refresh token encrypted: {sealed[:20]}...\n")


def _say(line: str) -> None:
    click.secho(f"==> {line}", bold=True)


def _check(condition: bool, failure: str) -> None:
    if not condition:
        raise click.ClickException(f"{failure[0].upper()}{failure[1:]}.")
