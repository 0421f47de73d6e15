"""One gateway for most tests, with a provider that sends to the upstream which each test scripts for itself."""

import json
import shutil
import time
from pathlib import Path

import pytest

from floway_core.testing import Caller, RunningGateway, write_plugin

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
        for command, name in (("add-wire", "first"), ("add-canned", "second")):
            assert gateway.run(command, name).returncode == 0
        return gateway

    yield start
    for gateway in started:
        gateway.kill()
        shutil.rmtree(gateway.folder)


@pytest.fixture(scope="session")
def gateway(start_wired):
    """The gateway that most tests talk to."""
    return start_wired(max_body_bytes=str(LARGEST_BODY))


@pytest.fixture
def call(fake_upstream):
    """Makes a client of a gateway whose requests reach this test's upstream. Looks at every answer afterwards."""
    made = []

    def make(gateway):
        made.append(Caller(gateway.url, gateway.key, {"x-test-upstream": fake_upstream.url}))
        return made[-1]

    yield make
    for exchange in (exchange for caller in made for exchange in caller.exchanges if exchange.begun):
        assert exchange.headers["x-request-id"]
        assert b"Traceback" not in exchange.received


@pytest.fixture
def ask(call, gateway):
    """A client of the gateway."""
    return call(gateway)


@pytest.fixture
def logged(gateway):
    """Waits for the log line of a request, which is written when the gateway has let go of everything."""

    def wait(exchange, patience=20):
        deadline = time.monotonic() + patience
        while f"id={exchange.headers['x-request-id']} " not in gateway.log:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    return wait


@pytest.fixture
def journal(journal_file):
    """The hook calls of one request, in the order in which they happened."""

    def read(request_id):
        return [json.loads(line) for line in journal_file.read_text().splitlines() if f'"{request_id}"' in line]

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
