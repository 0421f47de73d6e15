"""A simulated backend that speaks WebSockets, and a provider that uses them."""

import pytest
from floway_codex.account.auth_file import import_account
from floway_codex.simulator import Simulator
from floway_codex.websocket import transport

from ..conftest import open_services
from .asking import THREAD, USER, drive


@pytest.fixture
def simulator():
    with Simulator() as running:
        yield running


@pytest.fixture
def services(tmp_path, simulator):
    urls = {"FLOWAY_CODEX_BASE_URL": simulator.url, "FLOWAY_CODEX_AUTH_URL": simulator.url}
    opened = open_services(tmp_path, FLOWAY_CODEX_TRANSPORT="auto", **urls)
    yield opened
    opened.database.close_all()


@pytest.fixture
def account(simulator):
    return simulator.new_account()


@pytest.fixture
def upstream(services, account):
    return import_account(services, account)


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The waits before reconnects, which take no time here."""
    found: list[float] = []
    monkeypatch.setattr(transport.WebSocketTransport, "_pause", lambda self, seconds, client: found.append(seconds))
    return found


@pytest.fixture
def ask(attempt):
    """Sends a request of a thread: the status, and the body of the answer."""

    def send(items=None, thread=THREAD, **body):
        headers = {"session-id": thread, "thread-id": thread}
        return drive(attempt({"model": "gpt-5.5", "input": items or [USER], **body}, headers))

    return send
