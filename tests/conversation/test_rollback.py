"""A migration to an older schema and back keeps API keys and conversations, on both databases."""

import json

import pytest

from floway_core.storage import keys
from floway_core.storage.migrate import CORE

from ..support.vault_plugin import write

pytestmark = pytest.mark.soak

OLD = "floway/0003_secret_check"


def run(gateway, *arguments, typed=""):
    done = gateway.run(*arguments, typed=typed)
    assert done.returncode == 0, done.stderr
    return done.stdout


def applied(gateway):
    """The migrations of core that are applied."""
    lines = run(gateway, "migrate", "list").splitlines()[1:]
    return [line.split()[0] for line in lines if line.startswith("floway/") and not line.endswith(" -")]


def test_a_conversation_survives_a_rollback(start_acting, new_database, client_of):
    url = new_database()
    acting = start_acting(url)
    key = keys.create(acting.database, "somebody")
    first = client_of(acting, key).caller.create("One").json()
    gateway = acting.gateway
    assert gateway.stop() == 0
    known = applied(gateway)
    assert known == [f"floway/{file.stem}" for file in sorted(CORE.folder.glob("[0-9]*.py"))] and OLD in known

    refused = gateway.run("migrate", "--to", OLD, typed="n\n")
    assert refused.returncode == 1 and known[-1] in refused.stdout and applied(gateway) == known
    assert gateway.run("migrate", "--to", "floway/9999_later").returncode == 1
    told = run(gateway, "migrate", "--to", OLD, "--yes")
    undone = [line.removeprefix("undone: ") for line in told.splitlines()[:-1]]
    assert undone == known[: known.index(OLD) : -1] and applied(gateway) == known[: known.index(OLD) + 1]
    assert "up to date" in run(gateway, "migrate") and applied(gateway) == known

    again = client_of(start_acting(url), key).caller
    second = again.create("Two", previous_response_id=first["id"])
    assert second.status == 200, second.body


def test_the_migrations_of_a_plugin_can_be_undone_alone(install, new_database, tmp_path):
    installation = install({"database_url": new_database()}, plugin_folders=[write(tmp_path / "plugins")])
    assert run(installation, "add-vault", "one", typed="token-1") == ""
    assert "undone: vault/0001_tokens" in run(installation, "migrate", "--to", "vault/0", "--yes")
    assert len(applied(installation)) == len(list(CORE.folder.glob("[0-9]*.py")))
    run(installation, "migrate")
    run(installation, "add-vault", "two", typed="token-2")
    assert [row["name"] for row in json.loads(run(installation, "upstreams", "list", "--json"))] == ["one", "two"]


def test_the_secret_key_is_rotated(install, new_database, tmp_path):
    installation = install({"database_url": new_database()}, plugin_folders=[write(tmp_path / "plugins")])
    run(installation, "add-vault", "one", typed="token-1")
    for _ in range(2):
        assert "1 stored value" in run(installation, "secrets", "rotate")
        run(installation, "secrets", "rotate", "--finish")
    (row,) = json.loads(run(installation, "upstreams", "list", "--json"))
    assert row["problem"] is None


def test_there_is_nothing_to_list_before_there_is_a_database(install):
    installation = install()
    for command in (["migrate", "list"], ["migrate", "--to", OLD]):
        done = installation.run(*command)
        assert done.returncode == 1 and "There is no database" in done.stderr
    assert not installation.data_dir.exists()
