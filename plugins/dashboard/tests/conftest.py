"""A gateway with the dashboard, and somebody who looks at it."""

import sqlite3

import pytest
from argon2 import PasswordHasher

from floway_core.storage.db import connect
from floway_core.testing import RunningGateway

from .visitor import ADMIN_TOKEN, PASSWORD, VIEWER_PASSWORD, Visitor


def set_passwords(gateway):
    """Set the passwords of both roles, with hashes that take no time."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    rows = [("operator", quick.hash(PASSWORD)), ("viewer", quick.hash(VIEWER_PASSWORD))]
    with sqlite3.connect(gateway.database) as connection:
        connection.executemany("INSERT INTO dashboard_passwords (role, hash) VALUES (?, ?)", rows)
    connection.close()


@pytest.fixture(scope="session")
def gateway():
    with RunningGateway({"admin_token": ADMIN_TOKEN, "workers": "2"}, installed=["dashboard", "echo"]) as running:
        set_passwords(running)
        done = running.run("echo", "add", "mirror")
        assert done.returncode == 0, done.stderr
        yield running


@pytest.fixture(scope="session")
def database(gateway):
    return connect(f"sqlite:///{gateway.database}")


@pytest.fixture
def stranger(gateway, database):
    """Somebody who has not signed in, from an address that has all its attempts."""
    with database.connection_context():
        database.execute_sql("DELETE FROM dashboard_attempts")
    return Visitor(gateway.url)


@pytest.fixture
def operator(stranger):
    assert stranger.sign_in().status == 200
    return stranger


@pytest.fixture
def viewer(stranger):
    assert stranger.sign_in(VIEWER_PASSWORD).status == 200
    return stranger
