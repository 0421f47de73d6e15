"""The reason why an upstream cannot serve is shown to operators, without a request to the upstream."""

import itertools
import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from floway_core.testing import ApiClient

from ..support import vault_plugin

SIGNED_OUT = "The vault is signed out. Sign in again."


@pytest.fixture
def gateway(start_gateway, tmp_path):
    """Two accounts, ``ann@example.com`` and one that is signed out."""
    started = start_gateway(plugin_folders=[vault_plugin.write(tmp_path / "plugins")])
    for name, token in (("ann@example.com", "token-1"), ("bob@example.com", "")):
        assert started.run("add-vault", name, typed=token).returncode == 0
    return started


def ready(gateway):
    exchange = ApiClient(gateway.url, gateway.key).get("/readyz", authorization=None)
    assert exchange.status == 200 and b"example.com" not in exchange.body and b"token-1" not in exchange.body
    return exchange.json()


def test_problems_of_upstreams(gateway):
    problem = {"provider": "vault", "problem": SIGNED_OUT}
    known = {"providers": ["vault"], "upstreams": 1, "problems": [problem]}
    assert ready(gateway) == {"status": "ok", **known}
    listed = json.loads(gateway.run("upstreams", "list", "--json").stdout)
    assert [(row["name"], row["problem"]) for row in listed] == [
        ("ann@example.com", None),
        ("bob@example.com", SIGNED_OUT),
    ]
    lines = gateway.run("upstreams", "list").stdout.splitlines()
    assert (
        lines[0].endswith("STATE")
        and lines[1].endswith("unknown until a request or a test")
        and lines[2].endswith(SIGNED_OUT)
    )

    assert gateway.run("upstreams", "disable", "ann@example.com").returncode == 0
    assert ready(gateway) == {"status": "degraded", **known, "upstreams": 0}
    assert gateway.run("upstreams", "disable", "bob@example.com").returncode == 0
    assert ready(gateway) == {"status": "degraded", **known, "upstreams": 0, "problems": []}


def test_credentials_that_cannot_be_opened_and_a_plugin_that_is_gone(gateway):
    with closing(sqlite3.connect(gateway.database)) as database, database:
        database.execute("UPDATE vault_tokens SET token = 'broken'")
        database.execute("UPDATE upstreams SET kind = 'gone' WHERE name = 'bob@example.com'")
    told = ready(gateway)
    assert (told["status"], told["upstreams"]) == ("degraded", 0)
    unreadable, gone = told["problems"]
    assert unreadable["provider"] == "vault" and "cannot be decrypted" in unreadable["problem"]
    assert gone == {"provider": "gone", "problem": "The plugin of provider 'gone' is not installed."}


def test_the_start_names_them(install, tmp_path):
    installation = install(plugin_folders=[vault_plugin.write(tmp_path / "plugins")])
    for name, token in (("ann", "token-1"), ("bob", "")):
        assert installation.run("add-vault", name, typed=token).returncode == 0
    command = [sys.executable, "-m", "floway_core", "serve", "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, env=installation.environ, stderr=subprocess.PIPE, text=True) as process:
        told = list(itertools.takewhile(lambda line: "an API key" not in line, process.stderr))
        process.terminate()
    assert told[1:] == [f"  missing: the upstream 'bob'. {SIGNED_OUT}\n"]


def test_a_database_that_does_not_answer(gateway):
    with closing(sqlite3.connect(gateway.database)) as database, database:
        database.execute("ALTER TABLE upstreams RENAME TO elsewhere")
    exchange = ApiClient(gateway.url, gateway.key).get("/readyz")
    assert exchange.status == 503 and exchange.json()["error"]["code"] == "database_unavailable"


def test_the_admin_api_tells_it_with_names(start_gateway, tmp_path):
    token = "the-admin-token-of-this-test"
    gateway = start_gateway({"admin_token": token}, plugin_folders=[vault_plugin.write(tmp_path / "plugins")])
    for name, typed in (("ann", "token-1"), ("bob", "")):
        assert gateway.run("add-vault", name, typed=typed).returncode == 0
    caller = ApiClient(gateway.url, token)
    told = caller.get("/admin/api/health").json()
    assert told["status"] == "ok"
    assert [(row["name"], row["problem"]) for row in told["upstreams"]] == [("ann", None), ("bob", SIGNED_OUT)]
    assert gateway.run("upstreams", "disable", "ann").returncode == 0
    assert caller.get("/admin/api/health").json()["status"] == "degraded"
