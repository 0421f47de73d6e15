"""Read-only commands create no folder, database or secret key, and change none."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner

from floway_core.cli import cli
from floway_core.cli.context import Session
from floway_core.runtime import plugins
from floway_core.storage import migrate
from floway_core.storage.db import connect
from floway_core.testing import Installation

from ..support import vault_plugin

pytestmark = pytest.mark.soak  # long: many processes, or many examples

LOOKS = [
    "--help",
    "--version",
    "config",
    "config --json",
    "plugins",
    "plugins --json",
    "keys list",
    "keys list --json",
    "upstreams list",
    "upstreams list --json",
    "aliases list",
    "models",
    "models --json",
    "usage",
    "usage --json",
]
FAILS = ["migrate list", "migrate --to floway/0 --yes", "upstreams test nowhere", "doctor", "doctor --json", "nonsense"]


@pytest.fixture
def bare(install, tmp_path):
    """An installation with a plugin that has a table, where nothing has been set up."""
    return install(plugin_folders=[vault_plugin.write(tmp_path / "plugins")])


def everything(installation):
    """Every file below the installation's folder and what it holds, but for what Python and SQLite's readers make."""
    files = [file for file in installation.folder.rglob("*") if "__pycache__" not in file.parts]
    kept = [file for file in files if not file.name.endswith(("-wal", "-shm"))]
    return {str(file): file.read_bytes() if file.is_file() else None for file in kept}


@pytest.mark.parametrize("command", [*LOOKS, *FAILS])
def test_nothing_is_made_where_nothing_is(bare, command):
    before = everything(bare)
    done = bare.run(*command.split())
    assert (done.returncode == 0) == (command in LOOKS) and "Traceback" not in done.stderr
    assert everything(bare) == before


def test_nothing_is_made_with_an_empty_data_folder_or_file(bare):
    bare.data_dir.mkdir()
    assert bare.run("keys", "list").returncode == 0 and list(bare.data_dir.iterdir()) == []
    bare.database.touch()
    assert bare.run("keys", "list").returncode == 0
    assert list(bare.data_dir.iterdir()) == [bare.database] and bare.database.read_bytes() == b""


def test_no_help_makes_anything(tmp_path):
    def helps(command, words):
        yield [*words, "--help"]
        for name, inner in getattr(command, "commands", {}).items():
            yield from helps(inner, [*words, name])

    runner, environ = CliRunner(), {"FLOWAY_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path)}
    pages = list(helps(cli, []))
    assert len(pages) > 30
    for words in pages:
        shown = runner.invoke(cli, words, env=environ, obj=Session(plugins.build_plugin_manager(only=())))
        assert shown.exit_code == 0 and shown.output.startswith("Usage: "), words
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays_as_it_is(bare):
    assert bare.run("add-vault", "safe", typed="token-1").returncode == 0
    assert bare.run("keys", "create", "me").returncode == 0
    before = everything(bare)
    for command in LOOKS:
        done = bare.run(*command.split())
        assert (done.returncode, done.stderr) == (0, ""), command
    assert everything(bare) == before
    assert "safe" in bare.run("upstreams", "list").stdout and "me" in bare.run("keys", "list").stdout


def test_no_secret_key_takes_the_place_of_one_that_is_lost(bare):
    assert bare.run("add-vault", "safe", typed="token-1").returncode == 0
    (bare.data_dir / "secret.key").unlink()
    done = bare.run("upstreams", "list")
    assert done.returncode == 0 and "is missing" in done.stdout
    assert not (bare.data_dir / "secret.key").exists()


def test_a_database_on_a_server_gets_no_tables(install, new_postgresql):
    url = new_postgresql()
    installation = install({"database_url": url})
    assert installation.run("keys", "list").returncode == 0
    database = connect(url)
    with database.connection_context():
        assert database.get_tables() == []
    database.close_all()


def test_the_migrations_of_a_plugin_are_listed_and_not_applied(bare, tmp_path):
    assert "vault" in bare.run("plugins").stdout and "0 applied, 1 pending" in bare.run("plugins").stdout
    with Installation() as plain:
        assert plain.run("migrate").returncode == 0
        shutil.copytree(plain.data_dir, bare.data_dir)
    assert "0 applied, 1 pending" in bare.run("plugins").stdout
    with closing(sqlite3.connect(bare.database)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert migrate.CORE.table in tables and not any(name.startswith("vault") for name in tables)
    assert bare.run("migrate").returncode == 0
    assert "1 applied" in bare.run("plugins").stdout and "pending" not in bare.run("plugins").stdout
