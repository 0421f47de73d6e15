"""The migrations of plugins: how commands list them, and which mistakes they name."""

import pytest

from floway_core.testing import write_plugin

MIGRATING = """
from pathlib import Path
from floway_core.hookspecs import hookimpl
from floway_core.storage.migrate import MigrationSource

@hookimpl
def register_migrations():
    return MigrationSource("mine", Path({folder!r}))
"""


def test_the_state_of_migrations_is_listed(install, tmp_path):
    write_plugin(tmp_path, "mine", MIGRATING.format(folder=str(tmp_path / "mine_steps")))
    (tmp_path / "mine_steps").mkdir()
    for name in ("0001_first.py", "0002_second.py"):
        (tmp_path / "mine_steps" / name).write_text("def up(migrator, db): pass\ndef down(migrator, db): pass\n")
    installation = install(plugin_folders=[tmp_path])
    assert "0 applied, 2 pending" in installation.run("plugins").stdout
    assert installation.run("migrate").returncode == 0
    done = installation.run("plugins")
    assert "2 applied" in done.stdout and "pending" not in done.stdout, done.stderr


@pytest.mark.parametrize("column", ["mine_table.token", "upstreams.mine"])
def test_an_encrypted_column_that_does_not_exist_is_named(install, tmp_path, column):
    source = MIGRATING.format(folder=str(tmp_path / "mine_steps"))
    write_plugin(tmp_path, "mine", source.replace("_steps'))", f"_steps'), encrypted_columns=({column!r},))"))
    (tmp_path / "mine_steps").mkdir()
    (tmp_path / "mine_steps" / "0001_first.py").write_text("def up(migrator, db): pass\n")
    installation = install(plugin_folders=[tmp_path])
    done = installation.run("secrets", "rotate")
    assert done.returncode == 1
    assert (
        done.stderr == f"Error: The column {column!r} does not exist, though a plugin names it as an encrypted one.\n"
    )
