"""The plugin's schema: what was stored before is found again."""

import shutil
from pathlib import Path

import pytest
from floway_openai import migrations
from playhouse.migrations import Runner

from floway_core.storage.db import connect, select
from floway_core.storage.migrate import CORE, MigrationSource, apply

FOLDER = Path(migrations.__file__).parent


@pytest.fixture
def database(tmp_path):
    """A database with the first migration alone, and two upstreams of the plugin beside another one."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    shutil.copy(FOLDER / "0001_connections.py", folder)
    database = connect(f"sqlite:///{tmp_path}/floway.db")
    apply(database, [CORE, MigrationSource("openai", folder)])
    upstream = "INSERT INTO upstreams (id, kind, name, enabled, position, created_at) VALUES (?, ?, ?, 1, ?, 0)"
    with database.connection_context():
        for number, kind, prefix in ((1, "openai", "team/a"), (2, "openai", ""), (3, "echo", None)):
            database.execute_sql(upstream, (f"up_{number}", kind, f"name-{number}", number))
            if prefix is not None:
                connection = "INSERT INTO openai_connections VALUES (?, 'https://a', NULL, 'sealed', '[]', ?, 0)"
                database.execute_sql(connection, (f"up_{number}", prefix))
    yield database
    database.close_all()


def test_prefixes_move_to_core_and_back(database):
    before = select(database, "SELECT * FROM openai_connections ORDER BY upstream_id")
    apply(database, [CORE, MigrationSource("openai", FOLDER)])
    prefixes = "SELECT id, prefix FROM upstreams ORDER BY id"
    assert select(database, prefixes) == [("up_1", "team/a"), ("up_2", ""), ("up_3", "")]
    with database.connection_context():
        Runner(database, str(FOLDER), table_name="openai_migrations").down("0002_prefixes")
    columns = "upstream_id, base_url, api_key, headers, models_json, prefix, compacts"
    assert select(database, f"SELECT {columns} FROM openai_connections ORDER BY upstream_id") == before
    assert select(database, prefixes) == [("up_1", ""), ("up_2", ""), ("up_3", "")]
