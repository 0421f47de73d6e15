"""The schema: created once by the first process, and never opened by an older program."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import peewee
import pytest
from playhouse.migrations import Runner

from floway_core import migrations
from floway_core.storage import tables as declared
from floway_core.storage.db import connect
from floway_core.testing import write_plugin

FOLDER = Path(migrations.__file__).parent
NUMBERED = sorted(file.stem for file in FOLDER.glob("[0-9]*.py"))

PLUGIN = """
from pathlib import Path
from floway_core.hookspecs import hookimpl
from floway_core.storage.migrate import MigrationSource

@hookimpl
def register_migrations():
    return MigrationSource({name!r}, Path({folder!r}))
"""
MIGRATION = """
import peewee

def up(migrator, db):
    {statement}

def down(migrator, db):
    pass
"""


@pytest.fixture
def installation(install):
    return install()


def query(installation, statement):
    with closing(sqlite3.connect(installation.database)) as database, database:
        return database.execute(statement).fetchall()


def schema(installation):
    return sorted(query(installation, "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"))


def applied(installation, source="floway"):
    return [name for (name,) in query(installation, f"SELECT name FROM {source}_migrations ORDER BY id")]


def described(database, table):
    """Columns (name, nullable, part of the primary key), indexes that are more than a key, and foreign keys."""
    return (
        {(column.name, column.null, column.primary_key) for column in database.get_columns(table)},
        {(tuple(index.columns), index.unique) for index in database.get_indexes(table)},
        {(key.column, key.dest_table, key.dest_column) for key in database.get_foreign_keys(table)},
    )


def test_the_models_say_what_is_there(installation, tmp_path):
    installation.run("migrate")
    kinds = [kind for kind in vars(declared).values() if isinstance(kind, type) and issubclass(kind, peewee.Model)]
    migrated, modelled = connect(f"sqlite:///{installation.database}"), connect(f"sqlite:///{tmp_path / 'models.db'}")
    with migrated.connection_context(), modelled.connection_context(), modelled.bind_ctx(kinds):
        modelled.create_tables(kinds)
        tables = {kind._meta.table_name for kind in kinds}
        assert tables == {name for name in migrated.get_tables() if not name.endswith(("_migrations", "_history"))}
        for table in sorted(tables):
            assert described(migrated, table) == described(modelled, table), table


def test_from_nothing(installation):
    done = installation.run("migrate")
    assert (done.returncode, done.stderr) == (0, "")
    assert "up to date" in done.stdout
    assert applied(installation) == NUMBERED
    columns = {
        table: [row[1] for row in query(installation, f"PRAGMA table_info({table})")]
        for table in ("api_keys", "upstreams")
    }
    options = ["expires_at", "models", "upstreams", "requests_per_minute", "concurrent_requests", "tokens_per_day"]
    assert columns == {
        "api_keys": [
            "id",
            "name",
            "key_hash",
            "hint",
            "created_at",
            "revoked_at",
            *options,
            "last_used_at",
            "shows_account",
            "max_stored_bytes",
            "deleted_at",
            "day_budget",
            "month_budget",
            "allows_unpriced",
            "group_id",
        ],
        "upstreams": ["id", "kind", "name", "enabled", "position", "created_at", "prefix", "tried_at", "failure"],
    }


def test_the_second_time_changes_nothing(installation):
    installation.run("migrate")
    before = schema(installation)
    assert installation.run("migrate").returncode == 0
    assert (schema(installation), applied(installation)) == (before, NUMBERED)


def test_every_command_that_needs_the_schema_makes_it(installation):
    assert installation.run("keys", "create", "me").returncode == 0
    assert applied(installation) == NUMBERED


def test_several_processes_at_once(installation):
    with ThreadPoolExecutor(6) as threads:
        done = list(threads.map(lambda number: installation.run("keys", "create", f"key {number}"), range(6)))
    assert [(each.returncode, each.stderr) for each in done] == [(0, "")] * 6
    assert applied(installation) == NUMBERED
    assert query(installation, "SELECT COUNT(*) FROM api_keys") == [(6,)]


def test_a_database_of_a_newer_version_is_refused(installation):
    installation.run("migrate")
    names = [row[1] for row in query(installation, "PRAGMA table_info(floway_migrations)") if row[1] != "id"]
    values = ", ".join(names).replace("name", "'9999_later'")
    later = f"SELECT {values} FROM floway_migrations LIMIT 1"
    query(installation, f"INSERT INTO floway_migrations ({', '.join(names)}) {later}")
    before = schema(installation)
    for command in (["migrate"], ["keys", "list"], ["serve", "--bind", "127.0.0.1:0"]):
        done = installation.run(*command)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert "floway/9999_later" in line and "newer version" in line
    assert schema(installation) == before


def test_down_and_up_again(installation):
    installation.run("migrate")
    before = schema(installation)
    database = connect(f"sqlite:///{installation.database}")
    with database.connection_context():
        runner = Runner(database, str(FOLDER), table_name="floway_migrations")
        runner.down(NUMBERED[0])
        left = {table for table in database.get_tables() if not table.endswith("_migrations")}
    database.close_all()
    assert left == set()
    assert installation.run("migrate").returncode == 0
    assert schema(installation) == before


def with_migration(folder, statement, name="mine"):
    """A plugin folder whose plugin brings one migration."""
    own = folder / "migrations"
    own.mkdir()
    (own / "0001_first.py").write_text(MIGRATION.format(statement=statement))
    write_plugin(folder, "mine", PLUGIN.format(name=name, folder=str(own)))
    return folder


def test_a_plugin_has_a_history_of_its_own(install, tmp_path):
    installation = install(plugin_folders=[with_migration(tmp_path, "db.execute_sql('CREATE TABLE mine_things (a)')")])
    assert installation.run("migrate").returncode == 0
    assert (applied(installation), applied(installation, "mine")) == (NUMBERED, ["0001_first"])
    assert query(installation, "SELECT COUNT(*) FROM mine_things") == [(0,)]


def test_a_migration_that_fails_leaves_nothing_behind(install, tmp_path):
    statement = "db.execute_sql('CREATE TABLE mine_things (a)'); db.execute_sql('CREATE nonsense')"
    installation = install(plugin_folders=[with_migration(tmp_path, statement)])
    done = installation.run("migrate")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "'mine'" in line
    tables = [name for name, _ in schema(installation)]
    assert "mine_things" not in tables and "api_keys" not in tables


def test_a_migration_with_a_programming_error_is_named(install, tmp_path):
    done = install(plugin_folders=[with_migration(tmp_path, "there_is_no_such_name()")]).run("migrate")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "'mine'" in line


REBUILD = """
import peewee

def up(migrator, db):
    for statement in (
        "CREATE TABLE mine_parents (id INTEGER PRIMARY KEY)",
        "CREATE TABLE mine_children (id INTEGER REFERENCES mine_parents (id) ON DELETE CASCADE)",
        "INSERT INTO mine_parents VALUES (1), (2)",
        "INSERT INTO mine_children VALUES (1)",
        "CREATE TABLE mine_new_parents (id INTEGER PRIMARY KEY, more TEXT)",
        "INSERT INTO mine_new_parents (id) SELECT id FROM mine_parents WHERE id >= {least}",
        "DROP TABLE mine_parents",
        "ALTER TABLE mine_new_parents RENAME TO mine_parents",
    ):
        db.execute_sql(statement)
"""


def test_a_table_that_is_made_anew_takes_nothing_with_it_that_refers_to_it(install, tmp_path):
    folder = with_migration(tmp_path, "pass")
    (tmp_path / "migrations" / "0002_rebuild.py").write_text(REBUILD.format(least=1))
    installation = install(plugin_folders=[folder])
    assert installation.run("migrate").returncode == 0
    assert query(installation, "SELECT id FROM mine_children") == [(1,)]


def test_a_migration_that_leaves_rows_without_what_they_refer_to_is_undone(install, tmp_path):
    folder = with_migration(tmp_path, "pass")
    (tmp_path / "migrations" / "0002_rebuild.py").write_text(REBUILD.format(least=2))
    installation = install(plugin_folders=[folder])
    done = installation.run("migrate")
    assert done.returncode == 1 and "mine_children" in done.stderr.splitlines()[-1]
    assert "mine_parents" not in [name for name, _ in schema(installation)]


def test_a_source_with_an_unusable_name_is_named(install, tmp_path):
    done = install(plugin_folders=[with_migration(tmp_path, "pass", name="Mine; DROP")]).run("migrate")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "Mine; DROP" in line


@pytest.mark.parametrize("content", [b"this is no database, but it is long enough to look at" * 20])
def test_a_file_that_is_no_database(installation, content):
    installation.data_dir.mkdir()
    installation.database.write_bytes(content)
    done = installation.run("migrate")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "database" in line
    assert installation.database.read_bytes() == content


def test_importing_the_application_migrates_too(installation):
    command = [sys.executable, "-c", "import floway_core.wsgi"]
    done = subprocess.run(command, env=installation.environ, cwd=installation.folder)
    assert done.returncode == 0
    assert applied(installation) == NUMBERED
