"""The cached configuration: no entry outlives a change, whichever process makes it."""

import pytest

from floway_core.contexts import Upstream
from floway_core.storage import aliases, keys, last_use, upstreams
from floway_core.storage.configuration import ConfigurationCache, configuration_of
from floway_core.storage.db import select, transaction

from ..conversation.direct_store import execute

TABLES = ("api_keys", "key_groups", "upstreams", "upstream_connections", "model_aliases")


@pytest.fixture
def upstream(database):
    """An upstream with everything that can be configured around it."""
    upstream = upstreams.add(database, "configured", "configured")
    execute(
        database,
        "INSERT INTO upstream_connections (upstream_id, base_url, headers, models_json, options_json) "
        "VALUES (?, 'http://u', '', '[]', '{}')",
        upstream.id,
    )
    execute(database, "INSERT INTO key_groups (id, name, created_at) VALUES ('g', 'configured', 0)")
    keys.create(database, "configured")
    aliases.put(database, "configured", [("other", None)])
    yield upstream
    for table, column in zip(TABLES, ("name", "name", "name", "base_url", "name"), strict=True):
        execute(database, f"DELETE FROM {table} WHERE {column} IN ('configured', 'http://u')")


def version(database):
    ((number,),) = select(database, "SELECT version FROM configuration_version")
    return number


@pytest.mark.parametrize("table", TABLES)
def test_every_column_counts(database, upstream, table):
    columns = {column.name for column in database_columns(database, table)}
    for column in sorted(columns - {"last_used_at", "tried_at"}):
        before = version(database)
        execute(database, f"UPDATE {table} SET {column} = {column}")
        assert version(database) > before, column


def database_columns(database, table):
    with database.connection_context():
        return database.get_columns(table)


def test_new_and_deleted_rows_count(database, upstream):
    versions = [version(database)]
    keys.create(database, "another")
    versions.append(version(database))
    execute(database, "DELETE FROM api_keys WHERE name = 'another'")
    versions.append(version(database))
    assert len(set(versions)) == 3


def test_the_time_of_the_last_use_does_not_count(database, upstream):
    before = version(database)
    with transaction(database):
        last_use.store(
            database, {("key", "configured"): (10**10, ""), ("upstream", upstream.id): (10**10, "It failed.")}
        )
    assert version(database) == before
    assert select(database, "SELECT tried_at FROM upstreams WHERE id = ?", upstream.id) == [(10**10,)]


def test_a_change_is_seen_with_the_next_request(database, upstream):
    key = keys.create(database, "changing")
    assert keys.recognise(database, key).models is None
    assert upstream in aliases.read_with_upstreams(database, "configured")[0]
    execute(database, "UPDATE api_keys SET models = '[\"one\"]' WHERE name = 'changing'")  # by another program
    execute(database, "UPDATE upstreams SET enabled = ? WHERE id = ?", False, upstream.id)
    assert keys.recognise(database, key).models == {"one"}
    rows, alias = aliases.read_with_upstreams(database, "configured")
    assert [row.enabled for row in rows if row.id == upstream.id] == [False]
    assert alias.targets == (aliases.Target("other"),)
    keys.revoke(database, "changing")
    assert keys.recognise(database, key) is None
    execute(database, "DELETE FROM api_keys WHERE name = 'changing'")


def test_a_value_read_before_a_change_is_not_kept_after_it(database, upstream):
    cache = ConfigurationCache()
    cache.refresh(database)

    def read_slowly():
        execute(database, "UPDATE upstreams SET prefix = 'p' WHERE id = ?", upstream.id)
        cache.refresh(database)  # the next request begins meanwhile
        return "old"

    assert cache.get("key", read_slowly) == "old"
    assert cache.get("key", lambda: "new") == "new"


def test_what_does_not_exist_is_not_kept(database):
    cache = configuration_of(database)
    assert cache is configuration_of(database)
    assert cache.get((Upstream, "none"), lambda: None) is None
    assert cache.get((Upstream, "none"), lambda: 1) == 1
