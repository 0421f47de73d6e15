"""``floway keys``: made, listed, revoked; and what of them is stored."""

import hashlib
import json
import sqlite3

import pytest


@pytest.fixture
def installation(install):
    return install()


def one_line(done):
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("floway: ")
    return line


def test_create_prints_the_key_and_nothing_else(installation):
    done = installation.run("keys", "create", "laptop")
    assert (done.returncode, done.stderr) == (0, "")
    (key,) = done.stdout.splitlines()
    assert key.startswith("sk-floway-") and len(key) > 50


def test_the_hash_is_stored_and_the_key_is_nowhere(installation):
    key = installation.run("keys", "create", "laptop").stdout.strip()
    with sqlite3.connect(installation.database) as database:
        database.row_factory = sqlite3.Row
        (row,) = map(dict, database.execute("SELECT * FROM api_keys"))
    assert row["key_hash"] == hashlib.sha256(key.encode()).hexdigest()
    assert (row["name"], row["hint"], row["revoked_at"]) == ("laptop", f"...{key[-4:]}", None)
    assert row["id"].startswith("key_")
    for file in installation.data_dir.iterdir():
        assert key.removeprefix("sk-floway-").encode() not in file.read_bytes()


def test_keys_differ(installation):
    first, second = (installation.run("keys", "create", name).stdout for name in ("one", "two"))
    assert first != second


def test_a_name_that_is_taken(installation):
    installation.run("keys", "create", "laptop")
    assert "'laptop'" in one_line(installation.run("keys", "create", "laptop"))


def test_revoking_a_key_that_does_not_exist(installation):
    assert "'laptop'" in one_line(installation.run("keys", "revoke", "laptop"))


def test_revoking_twice_keeps_the_first_time(installation):
    def revoked_at():
        return json.loads(installation.run("keys", "list", "--json").stdout)[0]["revoked_at"]

    installation.run("keys", "create", "laptop")
    done = installation.run("keys", "revoke", "laptop")
    assert (done.returncode, done.stdout) == (0, "")
    first = revoked_at()
    assert isinstance(first, int)
    assert installation.run("keys", "revoke", "laptop").returncode == 0
    assert revoked_at() == first


def test_the_list(installation):
    keys = [installation.run("keys", "create", name).stdout.strip() for name in ("laptop", "server room")]
    installation.run("keys", "revoke", "laptop")
    listed = installation.run("keys", "list")
    heading, first, second = listed.stdout.splitlines()
    assert heading.split() == ["NAME", "KEY", "CREATED", "REVOKED"]
    assert first.startswith("laptop ") and keys[0][-4:] in first and not first.endswith("-")
    assert second.startswith("server room ") and second.endswith("-")
    assert not any(key in listed.stdout for key in keys)
    rows = json.loads(installation.run("keys", "list", "--json").stdout)
    assert [row["name"] for row in rows] == ["laptop", "server room"]
    assert set(rows[0]) == {"id", "name", "hint", "created_at", "revoked_at"}


def test_an_empty_list(installation):
    assert installation.run("keys", "list").stdout == "NAME  KEY  CREATED  REVOKED\n"
    assert installation.run("keys", "list", "--json").stdout == "[]\n"


def test_removing_an_upstream_that_does_not_exist(installation):
    assert "'nowhere'" in one_line(installation.run("upstreams", "remove", "nowhere"))


def test_upstreams_are_added_listed_and_removed(install, plugin_folder):
    installation = install(plugin_folders=[plugin_folder])
    assert installation.run("add-wire", "one").returncode == 0
    assert installation.run("add-canned", "two").returncode == 0
    assert "'one'" in one_line(installation.run("add-canned", "one"))
    rows = json.loads(installation.run("upstreams", "list", "--json").stdout)
    assert [(row["name"], row["kind"], row["enabled"]) for row in rows] == [
        ("one", "wire", True),
        ("two", "canned", True),
    ]
    assert rows[0]["position"] < rows[1]["position"]
    assert installation.run("upstreams", "remove", "one").returncode == 0
    (_, left) = installation.run("upstreams", "list").stdout.splitlines()
    assert left.split()[:3] == ["two", "canned", "yes"]
