"""One gateway for most tests, with a provider that sends to the upstream which each test scripts for itself."""

import json
import shutil
import uuid
from pathlib import Path

import openai
import pytest

from floway_core.storage import migrate
from floway_core.storage.db import connect
from floway_core.testing import ApiClient, RunningGateway, write_plugin

from .conversation.direct_store import execute
from .support import postgresql
from .support.certificates import make_certificates
from .support.stored_upstreams import add_upstreams
from .support.websocket_client import WebSocketClient

pytest_plugins = ["floway_core.testing.fixtures"]

LARGEST_BODY = 2**20


@pytest.fixture(scope="session")
def plugin_folder(tmp_path_factory):
    """The test plugins, installed."""
    folder = tmp_path_factory.mktemp("plugins")
    for source in (Path(__file__).parent / "plugins").glob("*.py"):
        write_plugin(folder, source.stem, source.read_text())
    return folder


@pytest.fixture(scope="session")
def journal_file(tmp_path_factory):
    """Where the test plugins write down the calls of their hooks."""
    file = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    file.touch()
    return file


@pytest.fixture(scope="session")
def start_wired(plugin_folder, journal_file):
    """Starts gateways with the test plugins; they live as long as the session."""
    started = []

    def start(**settings):
        environ = {"TEST_JOURNAL": str(journal_file)}
        gateway = RunningGateway(settings, plugin_folders=[plugin_folder], environ=environ)
        started.append(gateway)
        add_upstreams(gateway, first="wire", second="canned")
        return gateway

    yield start
    for gateway in started:
        gateway.kill()
        shutil.rmtree(gateway.folder)


@pytest.fixture(scope="session")
def gateway(start_wired):
    """The gateway that most tests talk to."""
    return start_wired(max_body_bytes=str(LARGEST_BODY))


COUNTING = '''"""An observer for tests with metrics of its own, and one that cannot be had, and a route that streams."""

from flask import Blueprint, Response
from prometheus_client import Counter

from floway_core.hookspecs import hookimpl

counters = []


class Broken:
    def collect(self):
        raise RuntimeError("the collector stumbles")


@hookimpl
def register_metrics(registry, providers):
    counters[:] = [Counter("floway_counting_attempts", "Attempts.", ["kinds"], registry=registry)]
    counters.append(" ".join(sorted(providers)))
    registry.register(Broken())


@hookimpl
def register_routes():
    blueprint = Blueprint("counting", __name__)
    blueprint.add_url_rule("/counting", view_func=lambda: Response(iter(["one", "two"])))
    return [blueprint]


@hookimpl
def on_attempt_start(ctx):
    counters[0].labels(counters[1]).inc()
'''


@pytest.fixture(scope="session")
def watched(plugin_folder, journal_file, tmp_path_factory):
    """A gateway with two workers, metrics for everybody and a log in JSON."""
    folder = tmp_path_factory.mktemp("counting")
    write_plugin(folder, "counting", COUNTING)
    prices = folder / "prices.toml"
    prices.write_text('["model-1"]\ninput = 4\ncached_input = 1\noutput = 10\nflex = { output = 1 }\n')
    settings = {"workers": "2", "metrics": "open", "log_format": "json", "prices": str(prices)}
    folders, environ = [plugin_folder, folder], {"TEST_JOURNAL": str(journal_file)}
    with RunningGateway(settings, plugin_folders=folders, environ=environ) as gateway:
        add_upstreams(gateway, first="wire", second="canned")
        yield gateway


@pytest.fixture
def call(fake_upstream):
    """Makes a client of a gateway whose requests reach this test's upstream. Looks at every answer afterwards."""
    made = []

    def make(gateway):
        made.append(ApiClient(gateway.url, gateway.key, {"x-test-upstream": fake_upstream.url}))
        return made[-1]

    yield make
    for exchange in (exchange for caller in made for exchange in caller.exchanges if exchange.has_started):
        assert exchange.headers["x-request-id"]
        assert b"Traceback" not in exchange.received


@pytest.fixture(scope="session")
def openai_package():
    """Makes clients of the openai package. They share connections: each would read the certificates of the system."""
    with openai.OpenAI(base_url="http://127.0.0.1:9", api_key="nobody", max_retries=0, timeout=20) as shared:
        yield lambda url, key, headers=None: shared.with_options(
            base_url=f"{url}/v1", api_key=key, default_headers=headers
        )


@pytest.fixture
def websocket(fake_upstream):
    """Opens WebSockets of a gateway whose requests reach this test's upstream."""
    opened = []

    def make(gateway, headers=None, **options):
        opened.append(WebSocketClient(gateway, {"x-test-upstream": fake_upstream.url, **(headers or {})}, **options))
        return opened[-1]

    yield make
    for client in opened:
        client.drop()


@pytest.fixture
def ask(call, gateway):
    """A client of the gateway."""
    return call(gateway)


@pytest.fixture
def logged(gateway):
    """Waits for the log line of a request, which is written when the gateway has let go of everything."""

    def wait(exchange):
        gateway.wait_for_log(f"id={exchange.headers['x-request-id']} ")

    return wait


@pytest.fixture
def journal(journal_file):
    """The hook calls of one request of this test, in the order in which they happened."""
    start = journal_file.stat().st_size  # earlier tests may have written very much

    def read(request_id):
        with journal_file.open("rb") as written:
            written.seek(start)
            return [json.loads(line) for line in written if b'"%b"' % request_id.encode() in line]

    return read


@pytest.fixture(scope="session")
def refused():
    """Asserts that an answer is an error in OpenAI's shape, and returns its message."""

    def check(exchange, status, code, param=None, type=None):
        assert exchange.status == status, exchange.body
        assert exchange.headers.get_content_type() == "application/json"
        body = exchange.json()
        assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
        kind = type or ("invalid_request_error" if status < 500 else "server_error")
        assert [body["error"][name] for name in ("type", "code", "param")] == [kind, code, param]
        assert body["error"]["message"]
        return body["error"]["message"]

    return check


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """The files of a throw-away authority (its certificate) and of a server (certificate and key)."""
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def postgresql_url():
    """The URL of a PostgreSQL server."""
    with postgresql.or_skip(postgresql.server()) as url:
        yield url


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def new_database(request, tmp_path_factory):
    """Makes an empty database and returns its URL."""
    return _maker(request.param, request, tmp_path_factory)


@pytest.fixture(scope="session")
def database(new_database):
    """A migrated database that tests share; each has keys of its own."""
    database = connect(new_database())
    migrate.apply(database, [migrate.CORE])
    yield database
    database.close_all()


@pytest.fixture(scope="session")
def new_sqlite(request, tmp_path_factory):
    """As ``new_database``, for tests of what only SQLite does."""
    return _maker("sqlite", request, tmp_path_factory)


@pytest.fixture(scope="session")
def new_postgresql(request, tmp_path_factory):
    """As ``new_database``, for tests that need several hosts."""
    return _maker("postgresql", request, tmp_path_factory)


def _maker(kind, request, tmp_path_factory):
    if kind == "sqlite":
        folder = tmp_path_factory.mktemp("databases")
        return lambda: f"sqlite:///{folder}/{uuid.uuid4().hex}.db"
    server = request.getfixturevalue("postgresql_url")

    def make():
        name = f"floway_{uuid.uuid4().hex}"
        database = connect(server)
        execute(database, f"CREATE DATABASE {name}")
        database.close_all()
        return _named(server, name)

    return make


def _named(url, name):
    """``url`` with another database's name."""
    path, mark, query = url.partition("?")
    return f"{path.rpartition('/')[0]}/{name}{mark}{query}"
