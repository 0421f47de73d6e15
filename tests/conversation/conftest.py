"""Both databases; a store to call directly; and gateways whose providers answer as the request's headers say."""

import shutil
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from floway_core.storage import keys, upstreams
from floway_core.storage.db import connect
from floway_core.testing import ApiClient, Reply, RunningGateway, Step, message_stream, write_plugin

from ..support.stored_upstreams import add_upstreams
from .actor_client import Client
from .direct_store import Store, execute


@pytest.fixture
def store(database):
    """The store, called directly, with a new API key."""
    return Store(database)


@pytest.fixture(scope="session")
def acting_folder(tmp_path_factory):
    """The test plugins of this folder, installed."""
    folder = tmp_path_factory.mktemp("acting")
    for source in (Path(__file__).parent / "plugins").glob("*.py"):
        write_plugin(folder, source.stem, source.read_text())
    return folder


@pytest.fixture(scope="session")
def start_acting(acting_folder, tmp_path_factory):
    """Starts a gateway on a database; it lives as long as the session."""
    started = []

    def start(url, **settings):
        journal = tmp_path_factory.mktemp("journal") / "journal.jsonl"
        journal.touch()
        gateway = RunningGateway(
            {"database_url": url, **settings}, plugin_folders=[acting_folder], environ={"TEST_JOURNAL": str(journal)}
        )
        started.append(gateway)
        acting = SimpleNamespace(gateway=gateway, journal=journal, database=connect(url))
        # so that a second gateway can make its own
        execute(acting.database, "UPDATE api_keys SET name = ? WHERE name = 'test'", uuid.uuid4().hex)
        if not upstreams.all_rows(acting.database):
            add_upstreams(gateway, first="actor", second="actor", third="understudy")
        return acting

    yield start
    for gateway in started:
        gateway.kill()
        shutil.rmtree(gateway.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def acting(start_acting, new_database):
    """The gateway that most tests here talk to."""
    return start_acting(new_database())


@pytest.fixture
def client_of():
    """Makes a client with a new API key. Looks at every answer afterwards."""
    made = []

    def make(acting, key=None):
        key = key or keys.create(acting.database, uuid.uuid4().hex)
        made.append(Client(ApiClient(acting.gateway.url, key), acting.journal, acting.database))
        return made[-1]

    yield make
    for exchange in (exchange for client in made for exchange in client.caller.exchanges if exchange.has_started):
        assert b"Traceback" not in exchange.received
        assert b"nobody's business" not in exchange.received


@pytest.fixture
def client(client_of, acting):
    """A client of the gateway."""
    return client_of(acting)


@pytest.fixture
def queries(database):
    """Every statement that the test has run on the shared database so far."""
    seen: list[str] = []

    def hook(event):
        seen.append(event.sql)

    database.query_hooks.append(hook)
    yield seen
    database.query_hooks.remove(hook)


@pytest.fixture
def held(fake_upstream):
    """Lets the upstream begin its answer to the next request, and wait; it ends when the test says so."""
    first, *rest = message_stream("answer")
    fake_upstream.script(Reply([first, rest[0], Step.HOLD, *rest[1:]]))
    return fake_upstream
