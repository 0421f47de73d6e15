"""Installations with faulty plugins."""

import pytest

from floway_core.testing import Installation, write_plugin


@pytest.fixture(scope="session")
def migrated():
    """An installation with a database, which all that do not start may have."""
    with Installation() as installation:
        assert installation.run("migrate").returncode == 0
        yield installation


@pytest.fixture
def install_broken(install, tmp_path, migrated):
    """Makes an installation with plugins by name that are the files of this test, on a database that exists."""

    def make(**sources):
        for name, source in sources.items():
            write_plugin(tmp_path, name, source)
        environ = {"FLOWAY_DATA_DIR": str(migrated.data_dir)}
        return install({"threads": "16"}, plugin_folders=[tmp_path], environ=environ)

    return make
