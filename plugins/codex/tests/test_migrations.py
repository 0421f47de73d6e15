"""The plugin's schema: from nothing, from before, and what it refuses."""

import functools
import shutil
import uuid
from pathlib import Path

import peewee
import pytest
from floway_codex import migrations
from floway_codex.account import accounts, credentials, quota
from floway_codex.account.auth_file import import_account
from playhouse.migrations import Runner

from floway_core.errors import GatewayError
from floway_core.storage.configuration import configuration_of
from floway_core.storage.db import connect, select, transaction
from floway_core.storage.migrate import CORE, MigrationSource, apply

from .conftest import auth_json, open_services
from .test_quota import HEADERS

FOLDER = Path(migrations.__file__).parent
KEPT = "9b1c43a6-7b6c-4c43-8f2e-6d5f0b1f6a01"

COLUMNS = "id, kind, name, enabled, position, created_at, prefix"


@pytest.fixture
def before(tmp_path):
    """A database with the first migration alone, and two accounts; only the second has an installation id."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    shutil.copy(FOLDER / "0001_accounts.py", folder)
    database = connect(f"sqlite:///{tmp_path}/floway.db")
    apply(database, [CORE, MigrationSource("codex", folder)])
    with database.connection_context():
        for number, installation in ((1, ""), (2, KEPT)):
            values = f"'up_{number}'"
            for statement in (
                f"INSERT INTO upstreams ({COLUMNS}) VALUES ({values}, 'codex', 'name-{number}', 1, {number}, 0, '')",
                f"INSERT INTO codex_accounts VALUES ({values}, 'acct-{number}', 'u', 'e', 'p', '{installation}', 5)",
                f"INSERT INTO codex_credentials VALUES ({values}, 'sealed', 'sealed', 7, NULL, 0)",
                f"INSERT INTO codex_tokens VALUES ({values}, 'sealed', 9)",
                f"INSERT INTO codex_health VALUES ({values}, 'active', '', 3)",
            ):
                database.execute_sql(statement)
    database.close_all()
    return database


def test_accounts_without_an_installation_id_get_one(before, tmp_path):
    services = open_services(tmp_path)
    first, second = (accounts.require_active(services, name) for name in ("up_1", "up_2"))
    assert uuid.UUID(first.installation_id).version == 4
    assert second.installation_id == KEPT
    assert (first.account_id, first.user_id, first.email, first.plan) == ("acct-1", "u", "e", "p")
    services.database.close_all()
    again = open_services(tmp_path)
    assert accounts.find_account(again, "up_1") == first
    again.database.close_all()


def test_migrated_accounts_take_the_next_write_of_each_kind(before, tmp_path):
    services = open_services(tmp_path)
    installation = accounts.find_account(services, "up_1").installation_id
    lease = credentials.acquire_lease(services, "up_1", 100, 10)
    assert lease
    assert credentials.store_renewed_tokens(services, "up_1", 7, "refresh-2", "id-2", "access-2", 2_000_000_000)
    credentials.release_lease(services, "up_1", lease)
    assert credentials.read_refresh_token(services, "up_1").value == "refresh-2"
    assert credentials.read_access_token(services, "up_1").value == "access-2"
    quota.record_limits(services, "up_1", HEADERS)
    assert quota.read_limits(services, "up_1")
    assert accounts.terminate(services, "up_1", accounts.REFRESH_FAILED, "x", 8)
    assert accounts.find_account(services, "up_1").state == "refresh_failed"
    assert import_account(services, auth_json(account="acct-1")).id == "up_1"
    assert accounts.require_active(services, "up_1").installation_id == installation
    with services.database.connection_context():  # and an account still goes with its upstream
        services.database.execute_sql("DELETE FROM upstreams WHERE id = 'up_1'")
        left = services.database.execute_sql("SELECT account_id FROM codex_accounts").fetchall()
    assert left == [("acct-2",)]
    services.database.close_all()


@pytest.mark.parametrize("value", ["NULL", "''", "'unknown'"])
def test_no_account_can_be_without_an_installation_id(services, upstream, value):
    for statement in (
        f"UPDATE codex_accounts SET installation_id = {value}",
        f"INSERT INTO codex_accounts SELECT id, 'other', 'u', 'e', 'p', {value}, 0 FROM upstreams",
    ):
        with services.database.connection_context(), pytest.raises(peewee.IntegrityError, match="installation_id"):
            services.database.execute_sql(statement)


def test_an_account_is_that_of_one_upstream(services, upstream):
    with services.database.connection_context(), pytest.raises(peewee.IntegrityError, match="account_id"):
        services.database.execute_sql(f"INSERT INTO upstreams ({COLUMNS}) VALUES ('up_x', 'codex', 'x', 1, 9, 0, '')")
        services.database.execute_sql(
            "INSERT INTO codex_accounts "
            "SELECT 'up_x', account_id, user_id, email, plan, installation_id, imported_at FROM codex_accounts"
        )


TOKEN = "INSERT INTO codex_tokens VALUES ('up_1', 'sealed', 9)"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE codex_accounts SET plan = 'team'",
        "UPDATE codex_health SET state = 'signed_out'",
        "UPDATE codex_tokens SET access_token = 'other'",
        "DELETE FROM codex_tokens",
        TOKEN,
        "DELETE FROM upstreams",
    ],
)
def test_a_change_of_an_account_counts_as_one_of_the_configuration(database_url, statement):
    database = connect(database_url)
    sources = [CORE, MigrationSource("codex", FOLDER)]
    apply(database, sources)
    with database.connection_context():
        Runner(database, str(FOLDER), table_name="codex_migrations").down()  # and back: both ways work
    apply(database, sources)

    def version() -> int:
        return select(database, "SELECT version FROM configuration_version")[0][0]

    with transaction(database):
        for row in (
            f"INSERT INTO upstreams ({COLUMNS}) VALUES ('up_1', 'codex', 'name', true, 1, 0, '')",
            f"INSERT INTO codex_accounts VALUES ('up_1', 'acct', 'u', 'e', 'p', '{KEPT}', 5)",
            "INSERT INTO codex_health VALUES ('up_1', 'active', '', 3)",
            *([] if statement == TOKEN else [TOKEN]),
        ):
            database.execute_sql(row)
    before = version()
    with transaction(database):
        database.execute_sql(statement)
    assert version() > before
    database.close_all()


def test_a_request_gets_the_account_as_it_is_when_it_begins(services, upstream):
    read = functools.partial(accounts.require_active_for_request, services, upstream.id)
    assert read() is read()
    accounts.sign_out(services, upstream.id)  # as another process does
    configuration_of(services.database).refresh(services.database)
    with pytest.raises(GatewayError, match="signed_out"):
        read()
