"""Services over a database of its own for each test, sign-ins made up, and contexts as the engine makes them."""

import base64
import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import responses as responses_library
from floway_codex import plugin
from floway_codex.account.auth_file import import_account
from floway_codex.provider import CodexProvider
from floway_codex.settings import SETTINGS
from floway_codex.simulator import Simulator

from floway_core.contexts import ApiKey, AttemptContext, ClientRequest, ResponsesRequestContext, Services, Upstream
from floway_core.protocol.lazy_items import LazyItems
from floway_core.runtime.settings_loader import load_settings
from floway_core.secrets import SecretBox
from floway_core.storage import keys
from floway_core.storage.configuration import configuration_of
from floway_core.storage.db import connect
from floway_core.storage.migrate import CORE, apply

from . import gateways

BASE = "https://chatgpt.com/backend-api"
TOKEN_URL = "https://auth.openai.com/oauth/token"
MODELS_URL = f"{BASE}/codex/models"


def segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def token(name: str, lifetime: float | None = 3600, **claims: Any) -> str:
    """A JWT that is told apart by ``name``."""
    expiry = {} if lifetime is None else {"exp": int(time.time() + lifetime)}
    return f"{segment({'alg': 'none'})}.{segment({**expiry, **claims})}.{name}"


def id_token(account: str = "acct-1", email: str = "ann@example.com", plan: str = "plus") -> str:
    auth = {"chatgpt_account_id": account, "chatgpt_user_id": "user-1", "chatgpt_plan_type": plan}
    return token("id-token-text", email=email, **{"https://api.openai.com/auth": auth})


def auth_json(name: str = "first", lifetime: float | None = 3600, **identity: str) -> dict[str, Any]:
    tokens = {
        "access_token": token(f"access-{name}", lifetime),
        "refresh_token": f"refresh-{name}",
        "id_token": id_token(**identity),
    }
    return {"OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": "2026-01-01T00:00:00Z"}


@pytest.fixture
def backend():
    """A simulated backend."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def auth(backend: Simulator) -> dict[str, Any]:
    """The auth.json of an account of the simulated backend."""
    return backend.new_account()


class NoClient:
    """A client that stays."""

    def fileno(self) -> None:
        return None

    def is_closed(self) -> bool:
        return False

    def shutdown_fileno(self) -> None:
        return None


def open_services(folder: Path, **environ: str) -> Services:
    """As another process would open the same database."""
    settings = load_settings({"FLOWAY_DATA_DIR": str(folder), "FLOWAY_CODEX_TRANSPORT": "http", **environ}, SETTINGS)
    database = connect(settings.database_url)
    apply(database, [CORE, plugin.register_migrations()])
    return Services(settings, database, SecretBox("a key"))


@pytest.fixture
def services(tmp_path: Path):
    opened = open_services(tmp_path)
    yield opened
    opened.database.close_all()


@pytest.fixture(scope="session")
def postgresql_url():
    """A server on which databases may be made."""
    if named := os.environ.get("FLOWAY_TEST_DATABASE_URL"):
        yield named
        return
    pgserver = pytest.importorskip("pgserver", reason="no PostgreSQL: FLOWAY_TEST_DATABASE_URL is not set, no pgserver")
    with tempfile.TemporaryDirectory(prefix="floway-pg-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(folder)
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """An empty database that several gateways can use."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shared.db"
    server = request.getfixturevalue("postgresql_url")
    name = f"floway_{uuid.uuid4().hex}"
    gateways.run_sql(server, f"CREATE DATABASE {name}")
    path, mark, query = server.partition("?")
    return f"{path.rpartition('/')[0]}/{name}{mark}{query}"


@pytest.fixture
def api_key(services: Services) -> str:
    """The id of an API key that is in the database."""
    keys.create(services.database, "test")
    return keys.all_rows(services.database)[0].id


@pytest.fixture
def upstream(services: Services) -> Upstream:
    """An account whose access token is good for an hour."""
    return import_account(services, auth_json())


@pytest.fixture
def provider(services: Services) -> CodexProvider:
    return CodexProvider(services)


@pytest.fixture
def network():
    """Answers for what goes through ``requests``; anything else fails."""
    with responses_library.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def attempt(services: Services, provider: CodexProvider, upstream: Upstream) -> Callable[..., AttemptContext]:
    """Makes the context of an attempt, before any hook has run."""

    def make(body: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> AttemptContext:
        body = body if body is not None else {"model": "gpt-5.5", "input": "ping"}
        configuration_of(services.database).refresh(services.database)  # as its authentication does
        request = ClientRequest("req_1", ApiKey("key_1", "test"), headers or {}, body, True, NoClient())
        return AttemptContext("att_1", request, upstream, provider, body.get("model", "gpt-5.5"))

    return make


@pytest.fixture
def prepared(attempt: Callable[..., AttemptContext]) -> Callable[..., ResponsesRequestContext]:
    """Runs both hooks as the engine does and gives what the upstream would be sent."""

    def make(body: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> ResponsesRequestContext:
        started = attempt(body, headers)
        plugin.on_attempt_start(started)
        return dispatch(started)

    return make


def dispatch(started: AttemptContext, number: int = 1, held: int = 0) -> ResponsesRequestContext:
    body = {**started.request.body, "model": started.model}
    if isinstance(body.get("input"), list | LazyItems):
        body["input"] = list(body["input"][held:])
    context = ResponsesRequestContext(started, number, body, held_items=held)
    plugin.prepare_responses_request(context)
    return context


@pytest.fixture(scope="session")
def simulated():
    """A simulated backend, and a running gateway with one account of it, for the rows of the acceptance tables."""
    with Simulator() as simulator, gateways.start(simulator, secret_key=gateways.SECRET_KEY) as gateway:
        gateways.import_account(gateway, simulator.new_account(), "--name", "work")
        yield simulator, gateway


@pytest.fixture
def front(simulated) -> gateways.Front:
    """Asks the gateway and shows what the backend got; nothing is recorded and scripted at first."""
    simulated[0].clear()
    return gateways.Front(*simulated)
