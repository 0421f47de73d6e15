"""The files and commands of docs/deployment.md work with a real server."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from floway_core.testing import ApiClient, Reply, RunningGateway, Step, event, message_stream
from floway_core.testing.events import response

from ..support import postgresql
from ..support.vault_plugin import write
from .conftest import ROOT

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
PATIENCE = 60


def needs(program):
    """Skips the test, or fails it where FLOWAY_TEST_REQUIRE_DEPLOYMENT is 1."""
    if shutil.which(program) is None:
        if os.environ.get("FLOWAY_TEST_REQUIRE_DEPLOYMENT") == "1":
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")


def shell(name, environ, **more):
    """Run a block of commands of the page. ``floway`` is the one under test."""
    folder = Path(environ["FLOWAY_DATA_DIR"]).parent / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "floway").write_text(f'#!/bin/sh\nexec {sys.executable} -m floway_core "$@"\n')
    (folder / "floway").chmod(0o755)
    path = os.pathsep.join([str(folder), environ["PATH"]])
    command = ["sh", "-euc", BLOCKS[name]]
    return subprocess.run(command, env={**environ, "PATH": path, **more}, capture_output=True, text=True, timeout=120)


def run(installation, *arguments, **options):
    done = installation.run(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for(url, process, context=None):
    """Until the server answers."""
    host, _, port = url.rpartition("/")[2].partition(":")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.02)
    raise TimeoutError(url)


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "{}:{}".format(*probe.getsockname())


# -------------------------------------------------------------------------------------------------------------- nginx
@pytest.fixture(scope="module")
def proxied(start_wired, tmp_path_factory):
    """A gateway, and the address at which nginx offers it with the configuration of the page."""
    needs("nginx")
    needs("openssl")
    gateway = start_wired(max_body_bytes=str(64 * 2**20), metrics="open")
    folder = tmp_path_factory.mktemp("nginx")
    subject = ["-subj", "/CN=floway.example.com", "-days", "2", "-nodes"]
    files = ["-keyout", folder / "floway.key", "-out", folder / "floway.crt"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, *files], check=True, capture_output=True
    )
    address = free_address()
    page = BLOCKS["floway.conf"]
    for text, instead in (
        ("server 127.0.0.1:8788;", f"server {gateway.url.rpartition('/')[2]};"),
        ("    listen 443 ssl;", f"    listen {address} ssl;"),
        ("/etc/ssl/floway.crt", f"{folder}/floway.crt"),
        ("/etc/ssl/floway.key", f"{folder}/floway.key"),
    ):
        assert page.count(text) == 1
        page = page.replace(text, instead)
    (folder / "floway.conf").write_text(page)
    temporary = "\n".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; {user} pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary} include {folder}/floway.conf; }}\n"
    )
    process = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"], stderr=subprocess.PIPE)
    try:
        wait_for(f"https://{address}", process)
        yield gateway, address
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(PATIENCE)


class Client:
    """A client of nginx; each request has a connection of its own."""

    def __init__(self, proxied, upstream):
        gateway, self.address = proxied
        self.headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
        self.headers["x-test-upstream"] = upstream.url
        self.context = ssl.create_default_context()
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def send(self, method, path, body=None, **more):
        connection = http.client.HTTPSConnection(self.address, timeout=PATIENCE, context=self.context)
        connection.request(method, path, body, {**self.headers, **more})
        return connection, connection.getresponse()

    def create(self, text="Hi", **fields):
        return self.send("POST", "/v1/responses", json.dumps({"model": "model-1", "input": text, **fields}))


@pytest.fixture
def client(proxied, fake_upstream):
    return Client(proxied, fake_upstream)


def read_until(answer, marker):
    received = b""
    while marker not in received:
        piece = answer.read1(64 * 1024)
        assert piece, received
        received += piece
    return received


def test_events_pass_one_by_one(client, fake_upstream):
    created = event("response.created", response=response("in_progress"))
    delta = event("response.output_text.delta", delta="first")
    fake_upstream.script(Reply([created, delta, Step.HOLD, *message_stream("Done.")[1:]]))
    _, answer = client.create(stream=True)
    assert answer.status == 200
    received = read_until(answer, b'"first"')
    assert b"response.completed" not in received and not fake_upstream.requests[0].over.is_set()
    fake_upstream.release.set()
    assert b"response.completed" in answer.read()


def test_a_large_body_passes_and_one_beyond_the_limit_does_not(client, fake_upstream):
    fake_upstream.script(Reply(message_stream("Done.")))
    _, answer = client.create("x" * 30_000_000, stream=True)
    assert answer.status == 200 and b"response.completed" in answer.read()
    assert len(fake_upstream.requests[0].body) > 30_000_000
    with contextlib.suppress(OSError):  # nginx may answer and close before it has read everything
        _, answer = client.create("x" * 70_000_000)
        assert answer.status == 413


def test_a_header_with_an_underscore_that_is_read_passes(client, fake_upstream):
    fake_upstream.script(Reply(message_stream("Done.")))
    body = json.dumps({"model": "model-1", "input": "Hi"})
    _, answer = client.send("POST", "/v1/responses", body, x_test_trace="mine", x_api_key="nonsense", x_other="1")
    assert answer.status == 200
    assert [pair for pair in fake_upstream.requests[0].headers if "_" in pair[0]] == [("x_test_trace", "mine")]


def test_a_client_that_hangs_up_is_noticed_behind_it(client, fake_upstream):
    created = event("response.created", response=response("in_progress"))
    fake_upstream.script(Reply([created, Step.HOLD]))
    connection, answer = client.create(stream=True)
    read_until(answer, b"response.created")
    connection.sock.shutdown(socket.SHUT_RDWR)
    answer.close()
    connection.close()
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)


def test_the_operators_side_is_for_those_who_may(client, proxied):
    _, answer = client.send("GET", "/metrics")
    assert answer.status == 200 and b"floway_" in answer.read()
    _, answer = client.send("GET", "/admin/api/keys")
    assert answer.status in (401, 404)


# ----------------------------------------------------------------------------------------------------------- services
def test_gunicorn_with_the_configuration_of_the_page(install, tmp_path):
    bind = free_address()
    settings = {"bind": bind, "workers": "2", "threads": "8", "metrics": "open", "graceful_timeout": "5"}
    installation = install(settings, plugin_folders=[write(tmp_path / "plugins")])
    run(installation, "add-vault", "safe", typed="token-1")
    caller = ApiClient(f"http://{bind}", run(installation, "keys", "create", "me").strip())
    (tmp_path / "gunicorn.conf.py").write_text(BLOCKS["gunicorn.conf.py"])
    (line,) = re.findall(r"^    gunicorn (-c gunicorn.conf.py .*)$", PAGE, re.MULTILINE)
    command = [sys.executable, "-m", "gunicorn", *line.split()]
    with subprocess.Popen(
        command, cwd=tmp_path, env=installation.environ, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_for(f"http://{bind}", process)
            assert caller.create(model="vault").status == 200
            assert b"floway_request" in caller.get("/metrics").body
            process.send_signal(signal.SIGHUP)
            assert [caller.create(model="vault").status for _ in range(20)] == [200] * 20
        finally:
            process.send_signal(signal.SIGTERM)
            told = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0 and "Traceback" not in told, told


def test_the_unit_is_one(tmp_path):
    needs("systemd-analyze")
    unit = BLOCKS["floway.service"]
    program = "/opt/floway/bin/floway"
    assert unit.count(program) == 1
    file = tmp_path / "floway.service"
    file.write_text(unit.replace(program, shutil.which("true")))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, timeout=60)
    mine = [line for line in done.stderr.splitlines() if "floway.service" in line]
    assert mine == [] and done.returncode == 0, done.stderr


# --------------------------------------------------------------------------------------------------- backup and restore
@contextlib.contextmanager
def talking(caller):
    """Responses are stored all the time meanwhile."""
    done, talked = threading.Event(), threading.Event()

    def talk():
        previous = None
        while not done.is_set():
            answer = caller.create(model="vault", previous_response_id=previous)
            assert answer.status == 200
            previous = answer.json()["id"]
            talked.set()

    threads = [threading.Thread(target=talk) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert talked.wait(PATIENCE)
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def back_and_forth(first, kind, backup, other):
    """A backup of a gateway under load, restored elsewhere; ``other`` is that environment. The id to go on from."""
    caller = ApiClient(first.url, first.key)
    said = caller.create("Remember me", model="vault").json()["id"]
    with talking(caller):
        done = shell(f"backup-{kind}", first.environ, BACKUP=str(backup))
    assert done.returncode == 0, done.stderr
    assert {file.stat().st_mode & 0o077 for file in backup.iterdir()} == {0}
    first.stop()
    restored = shell(f"restore-{kind}", other, BACKUP=str(backup))
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert "decrypts all stored credentials" in restored.stdout
    return said


class Continued(RunningGateway):
    """A gateway on a restored database, which has its API key already."""

    def __init__(self, environ, **options):
        super().__init__(environ=environ, **options)

    def _create_key(self):
        return ""


def goes_on(environ, key, said, folder):
    settings = {name: value for name, value in environ.items() if name in ("FLOWAY_DATA_DIR", "FLOWAY_DATABASE_URL")}
    with Continued(settings, plugin_folders=[folder]) as gateway:
        answer = ApiClient(gateway.url, key).create("Still there?", model="vault", previous_response_id=said)
        assert answer.status == 200 and "token-1" in json.dumps(answer.json()), answer.body
        (row,) = json.loads(run(gateway, "upstreams", "list", "--json"))
        assert row["problem"] is None


@pytest.fixture
def places(tmp_path):
    """Folders: plugins, backup, a fresh place."""
    for name in ("backup", "fresh"):
        (tmp_path / name).mkdir()
    return write(tmp_path / "plugins"), tmp_path / "backup", tmp_path / "fresh"


def test_sqlite_is_backed_up_under_load_and_restored(start_gateway, places):
    needs("sqlite3")
    plugins, backup, fresh = places
    first = start_gateway(plugin_folders=[plugins])
    run(first, "add-vault", "safe", typed="token-1")
    other = {**first.environ, "FLOWAY_DATA_DIR": str(fresh / "data")}
    said = back_and_forth(first, "sqlite", backup, other)
    goes_on(other, first.key, said, plugins)


@pytest.fixture(scope="module")
def server():
    """The URL of a PostgreSQL server."""
    try:
        with postgresql.server() as url:
            yield url
    except postgresql.NoServer as reason:
        pytest.skip(f"no PostgreSQL server: {reason}")


@pytest.fixture
def made(server):
    """The role and the database of the page, and another database; URLs of both."""
    import psycopg2

    def execute(*statements):
        connection = psycopg2.connect(server)
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    # The server's superuser has the name of the page's role.
    statements = BLOCKS["postgresql.sql"].replace("floway", "floway_team").strip().split(";")
    execute(*filter(None, statements), "CREATE DATABASE other OWNER floway_team TEMPLATE template0")
    place = server.replace("://floway@/postgres?", "://floway_team:change-me@/{}?", 1)
    yield place.format("floway_team"), place.format("other")
    execute("DROP DATABASE floway_team WITH (FORCE)", "DROP DATABASE other WITH (FORCE)")


def test_postgresql_is_backed_up_under_load_and_restored(start_gateway, places, made):
    needs("pg_dump")
    plugins, backup, fresh = places
    url, other_url = made
    first = start_gateway({"database_url": url}, plugin_folders=[plugins])
    run(first, "add-vault", "safe", typed="token-1")
    other = {**first.environ, "FLOWAY_DATA_DIR": str(fresh / "data"), "FLOWAY_DATABASE_URL": other_url}
    said = back_and_forth(first, "postgresql", backup, other)
    goes_on(other, first.key, said, plugins)


# ------------------------------------------------------------------------------------------------------- other commands
def test_the_way_back_to_an_older_schema(install):
    installation = install()
    run(installation, "keys", "create", "me")
    target = re.search(r"such as `(floway/\w+)`", PAGE)[1]
    done = shell("rollback", installation.environ, TARGET=target)
    assert done.returncode == 0 and f"The database schema is that of {target}." in done.stdout, done.stderr
    assert "me" in run(installation, "keys", "list")


def test_the_secret_key_is_rotated_as_the_page_says(install, tmp_path):
    installation = install(plugin_folders=[write(tmp_path / "plugins")])
    run(installation, "add-vault", "safe", typed="token-1")
    before = (installation.data_dir / "secret.key").read_text()
    done = shell("rotate", installation.environ, PAUSE="0")
    assert done.returncode == 0, done.stderr
    assert before not in (installation.data_dir / "secret.key").read_text()
    assert "unknown until a request or a test" in run(installation, "upstreams", "list")


def test_the_page_has_nothing_else_to_run():
    commands = {f"{what}-{kind}" for what in ("backup", "restore") for kind in ("sqlite", "postgresql")}
    files = {"floway.conf", "floway.service", "gunicorn.conf.py", "postgresql.sql"}
    assert set(BLOCKS) == {*files, *commands, "rollback", "rotate", "Containerfile"}  # a container was not built
