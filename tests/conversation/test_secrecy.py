"""Planted secrets are in nothing that a gateway writes during its whole life."""

import base64
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from floway_core.storage.db import connect
from floway_core.testing import ApiClient, Reply, RunningGateway, Step, message_stream

from ..support.documented_projects import projects

pytestmark = pytest.mark.soak

TOKEN = "polly-wants-a-cracker-4711"
ADMIN_TOKEN = "the-admin-token-0815-planted"
SECRET_KEY = "the-secret-key-planted-1234"
UPSTREAM_PASSWORD = "pieces-of-eight-1357"
PASSWORD = "the-database-password-2345"
GUESSED = "sk-floway-guessed-by-somebody-5678"

LOOKED_AT = [
    "config", "config --json", "plugins", "models", "upstreams list", "upstreams test polly", "keys list --json",
    "doctor", "doctor --json", "usage", "secrets rotate", "keys revoke nobody", "nonsense", "serve --bind nowhere",
]  # fmt: skip


def spellings(secret):
    """The secret as such, and within base64 at each of its three places."""
    yield secret.encode()
    for before in range(3):
        # What is around it changes the first and the last characters only.
        yield base64.b64encode(b"\0" * before + secret.encode())[4:-4]


def with_password(url):
    """``url`` with a password, which the tests' server does not look at."""
    parts = urlsplit(url)
    return url if parts.scheme == "sqlite" else url.replace("://floway@", f"://floway:{PASSWORD}@", 1)


@pytest.fixture
def gateway(new_database, tmp_path):
    """A gateway at its most talkative, with the last provider of docs/plugins.md."""
    for path, text in projects("Metadata in conversations").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    metadata = tmp_path / "floway-parrot" / "floway_parrot-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: floway-parrot\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[floway]\nparrot = floway_parrot\n")
    settings = {
        "log_level": "debug",
        "database_url": with_password(new_database()),
        "secret_key": SECRET_KEY,
        "admin_token": ADMIN_TOKEN,
        "metrics": "token",
    }
    environ = {"PYTHONHASHSEED": "0"}  # for an interpreter, and so a command line, of its own
    with RunningGateway(settings, plugin_folders=[tmp_path / "floway-parrot"], environ=environ) as running:
        yield running


def command_lines(gateway):
    """What others see of the server and its workers."""
    group = os.getpgid(gateway.process.pid)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                yield (folder / "cmdline").read_bytes()
        except (OSError, ProcessLookupError):
            continue


def stored(gateway):
    """The database as whoever gets hold of it sees it."""
    url = gateway.environ["FLOWAY_DATABASE_URL"]
    if url.startswith("sqlite"):
        return b"".join(file.read_bytes() for file in Path(urlsplit(url).path[1:]).parent.glob("*.db*"))
    database = connect(url)
    with database.connection_context():
        rows = [database.execute_sql(f"SELECT * FROM {table}").fetchall() for table in database.get_tables()]
    database.close_all()
    return "\n".join(
        str([bytes(cell) if isinstance(cell, memoryview) else cell for cell in row]) for table in rows for row in table
    ).encode()


def test_no_secret_is_ever_written_in_plain(gateway, fake_upstream):
    written = {}

    def run(*arguments, typed="", **environ):
        done = gateway.run(*arguments, typed=typed, environ=environ)
        written[f"{len(written)} {' '.join(arguments)}"] = (done.stdout + done.stderr).encode()
        return done.returncode

    def take(exchange):
        exchange.body  # noqa: B018 - reads it
        written[f"{len(written)} answer {exchange.status}"] = str(exchange.headers).encode() + exchange.received
        return exchange.status

    where = ["--base-url", fake_upstream.url, "--key-file", "-", "--mood", "grumpy", "--model", "parrot-1", "--no-test"]
    assert run("upstreams", "add", "parrot", "polly", *where, typed=TOKEN) == 0
    assert run("parrot", "set-password", "nobody", typed=UPSTREAM_PASSWORD) == 1
    assert run("parrot", "set-password", "polly", typed=UPSTREAM_PASSWORD) == 0
    for command in LOOKED_AT:
        run(*command.split())
    run("config", FLOWAY_DATABASE_URL=f"mysql://user:{PASSWORD}@host/name")
    run("migrate", FLOWAY_DATABASE_URL=f"postgresql://user:{PASSWORD}@127.0.0.1:1/name")
    run("doctor", FLOWAY_DATABASE_URL=f"postgresql://user:{PASSWORD}@127.0.0.1:1/name", FLOWAY_ADMIN_TOKEN=TOKEN[:9])
    run("doctor", FLOWAY_SECRET_KEY=PASSWORD, FLOWAY_SECRET_KEYS=PASSWORD)
    run("keys", "list", FLOWAY_SECRET_KEY=PASSWORD)

    caller = ApiClient(gateway.url, gateway.key)
    refusal = Reply([b'{"error":{"message":"No."}}'], 401, [("content-type", "application/json")], "length")
    resets = [Reply(before=[Step.RESET])] * 2  # the first on a pooled connection, so that it is sent again
    fake_upstream.script(Reply(message_stream("One.")), refusal, *resets, Reply([b"data: {\n\n"]))
    assert [take(caller.stream(model="parrot-1")) for _ in range(4)] == [200, 503, 502, 200]
    assert TOKEN in fake_upstream.requests[-1].header("authorization")
    assert fake_upstream.requests[-1].header("x-password") == UPSTREAM_PASSWORD
    for authorization in (None, f"Bearer {GUESSED}", f"Basic {GUESSED}", f"Bearer {ADMIN_TOKEN}"):
        assert take(caller.get("/v1/models", authorization=authorization)) == 401
    assert take(caller.get("/v1/models", authorization=None, x_api_key=GUESSED)) == 401
    take(caller.post(b"{", x_api_key=gateway.key))
    for token in (ADMIN_TOKEN, GUESSED, gateway.key):
        for path in ("keys", "upstreams", "usage", "health", "models", "nothing"):
            take(caller.get(f"/admin/api/{path}", authorization=f"Bearer {token}"))
        take(caller.get("/metrics", authorization=f"Bearer {token}"))
    for path in ("/healthz", "/readyz", "/openapi.json", "/nowhere", "/v1/responses/resp_1"):
        take(caller.get(path))
    written["command lines"] = b"\n".join(command_lines(gateway))
    assert gateway.stop() == 0
    written["log"] = gateway.log.encode()
    written["database"] = stored(gateway)

    for name, content in written.items():
        for secret in (TOKEN, UPSTREAM_PASSWORD, ADMIN_TOKEN, SECRET_KEY, PASSWORD, GUESSED, gateway.key):
            assert not any(spelling in content for spelling in spellings(secret)), (name, secret)
    # What is no secret was found, so the search looked in the right places.
    assert b"/v1/responses" in written["log"] and b"serve" in written["command lines"]
    assert fake_upstream.url.encode() in written["database"] and b"(hidden)" in written["3 config"]
    assert b'"polly"' in b"".join(text for name, text in written.items() if name.endswith("answer 200"))
    assert json.loads(written["4 config --json"])["FLOWAY_ADMIN_TOKEN"] == "(hidden)"
