"""All writes of a serving process to SQLite wait in its queue. One beside it would poll for the lock, and may fail."""

import pytest

from floway_core.hookspecs import hookimpl
from floway_core.provider import ConnectionOptions, Model
from floway_core.runtime import plugins
from floway_core.runtime.gateway import read_settings
from floway_core.storage.db import select, write
from floway_core.testing import FakeUpstream, Reply, message_stream
from floway_core.upstream.keyed import KeyedProvider, encode_body
from floway_core.web.app import create_app

TOKEN = "an-admin-token-that-is-long-enough"
ADMIN = "/admin/api"


class Keyed(KeyedProvider):
    kind = "keyed"
    connection_options = ConnectionOptions(example_base_url="https://example.com/v1")

    def request_models(self, upstream):
        return [Model("model-1", "them")]

    def send(self, ctx):
        return self.post(ctx, "/responses", encode_body(ctx.body))


class Plugin:
    @hookimpl
    def register_providers(self, services):
        return [Keyed(services)]


@pytest.fixture
def app(tmp_path):
    manager = plugins.build_plugin_manager(only=())
    manager.register(Plugin(), "keyed")
    settings = {"FLOWAY_DATA_DIR": str(tmp_path), "FLOWAY_ADMIN_TOKEN": TOKEN}
    app = create_app(read_settings(manager, settings), manager)
    yield app
    app.extensions["floway"].services.database.close_all()


@pytest.fixture
def writes(app, monkeypatch):
    """The writing statements, each with whether its thread was the one that may write."""
    database, statements = app.extensions["floway"].services.database, []
    execute_sql = database.execute_sql

    def recorded(sql, *arguments, **options):
        if sql.split(None, 1)[0].upper() in ("INSERT", "UPDATE", "DELETE", "REPLACE"):
            statements.append((sql, database.write_lock._is_owned()))
        return execute_sql(sql, *arguments, **options)

    monkeypatch.setattr(database, "execute_sql", recorded)
    return statements


def test_every_write_takes_the_queue(app, writes):
    database, client = app.extensions["floway"].services.database, app.test_client()
    administrator = {"authorization": f"Bearer {TOKEN}"}

    def call(method, path, body=None, headers=administrator):
        before = len(writes)
        answer = client.open(path, method=method, json=body, headers=headers)
        assert answer.status_code < 300, answer.text
        assert len(writes) > before, f"{method} {path} has written nothing"
        return answer.get_json(silent=True)

    with FakeUpstream() as server:
        connection = {"kind": "keyed", "base_url": server.url, "api_key": "k"}
        call("POST", f"{ADMIN}/upstreams", {"name": "one", **connection})
        call("PATCH", f"{ADMIN}/upstreams/one", {"name": "two", "place": 1})
        call("PATCH", f"{ADMIN}/upstreams/two", {"api_key": "l"})
        call("PUT", f"{ADMIN}/aliases/best", {"targets": [{"model": "model-1"}]})
        limits = {"requests_per_minute": 1000, "concurrent_requests": 10, "tokens_per_day": 10**6}
        user = {"authorization": f"Bearer {call('POST', f'{ADMIN}/keys', {'name': 'user', **limits})['key']}"}
        call("PATCH", f"{ADMIN}/keys/user", {"models": ["best", "model-1"]})
        server.script(*[Reply(message_stream())] * 2)
        first = call("POST", "/v1/responses", {"model": "best", "input": "Hi"}, user)
        continued = {"model": "best", "input": "Go on", "previous_response_id": first["id"]}
        call("POST", "/v1/responses", continued, user)
        write(database, "UPDATE responses_conversations SET used_at = used_at - 100000 RETURNING 1")
        call("GET", f"/v1/responses/{first['id']}", headers=user)
    call("DELETE", f"/v1/responses/{first['id']}", headers=user)
    call("DELETE", f"{ADMIN}/aliases/best")
    call("DELETE", f"{ADMIN}/upstreams/two")
    call("POST", f"{ADMIN}/keys/user/revoke")
    call("DELETE", f"{ADMIN}/keys/user")
    assert select(database, "SELECT 1 FROM api_keys") == []
    app.extensions["floway"].usage.flush(database)
    assert [sql for sql, is_queued in writes if not is_queued] == []
