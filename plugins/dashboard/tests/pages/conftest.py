"""A gateway whose upstreams, keys, models and conversations the pages show, and those who look at it."""

import pytest

from floway_core.administration import groups, keys
from floway_core.storage import upstreams
from floway_core.storage.db import connect
from floway_core.testing import RunningGateway, write_plugin

from ..conftest import set_passwords
from ..visitor import ADMIN_TOKEN, VIEWER_PASSWORD, Visitor
from .birds import BIRDS


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("birds")
    write_plugin(folder, "birds", BIRDS)
    settings = {"admin_token": ADMIN_TOKEN}
    with RunningGateway(settings, installed=["dashboard", "echo"], plugin_folders=[folder]) as running:
        set_passwords(running)
        yield running


@pytest.fixture(scope="session")
def database(gateway):
    opened = connect(f"sqlite:///{gateway.database}")
    yield opened
    opened.close_all()


@pytest.fixture
def emptied(database):
    """Removes the keys, groups and upstreams that the test has added."""
    yield
    for key in keys.all_rows(database):
        if key.name != "test":
            keys.delete(database, key.name)
    for group in groups.all_rows(database):
        groups.remove(database, group.name)
    for upstream in upstreams.all_rows(database):
        upstreams.remove(database, upstream.name)


@pytest.fixture
def visitor(gateway, database):
    """Makes somebody who has not signed in, from an address that has all its attempts."""
    with database.connection_context():
        database.execute_sql("DELETE FROM dashboard_attempts")
    return lambda: Visitor(gateway.url)


@pytest.fixture
def operator(visitor):
    made = visitor()
    assert made.sign_in().status == 200
    return made


@pytest.fixture
def viewer(visitor):
    made = visitor()
    assert made.sign_in(VIEWER_PASSWORD).status == 200
    return made
