"""``floway keys``: create, list and revoke keys; and what is stored of them."""

import hashlib
import json
import sqlite3
import time
import uuid

import pytest

from floway_core.errors import GatewayError
from floway_core.storage import keys

LIMITS = ("requests_per_minute", "concurrent_requests", "tokens_per_day", "max_stored_bytes")
OPTIONS = ("expires_at", "models", "upstreams", *LIMITS)


@pytest.fixture
def installation(install):
    return install()


def one_line_of(text):
    (line,) = text.splitlines()
    return line


def one_line(done):
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
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
    assert heading.split() == ["NAME", "KEY", "CREATED", "LAST", "USED", "EXPIRES", "REVOKED", "LIMITS"]
    assert first.startswith("laptop ") and keys[0][-4:] in first and first.split()[-2:] != ["-", "-"]
    assert second.startswith("server room ") and second.split()[-3:] == ["-", "-", "-"]
    assert not any(key in listed.stdout for key in keys)
    rows = json.loads(installation.run("keys", "list", "--json").stdout)
    assert [row["name"] for row in rows] == ["laptop", "server room"]
    told = {"id", "name", "hint", "created_at", "revoked_at", "last_used_at", "shows_account"}
    assert set(rows[0]) == {*told, *OPTIONS, "group", "usd_per_day", "usd_per_month", "allows_unpriced", "spent"}
    assert [rows[1][option] for option in OPTIONS] == [None] * 7


def test_an_empty_list(installation):
    assert "floway keys create" in one_line_of(installation.run("keys", "list").stdout)
    assert installation.run("keys", "list", "--json").stdout == "[]\n"


def listed(installation):
    (row,) = json.loads(installation.run("keys", "list", "--json").stdout)
    return [row[option] for option in OPTIONS]


def test_what_a_key_may_do(install, plugin_folder):
    installation = install(plugin_folders=[plugin_folder])
    assert installation.run("add-wire", "one").returncode == 0
    limits = ("--requests-per-minute", "60", "--concurrent", "4", "--tokens-per-day", "1000000")
    chosen = ("--expires", "30d", "--model", "model-2", "--model", "fast", "--upstream", "one", *limits)
    assert installation.run("keys", "create", "laptop", *chosen).returncode == 0
    expires_at, *others = listed(installation)
    assert 0 <= time.time() + 30 * 86_400 - expires_at < 60
    assert others == [["fast", "model-2"], ["one"], 60, 4, 1000000, None]
    shown = installation.run("keys", "list").stdout.splitlines()[1]
    assert shown.endswith("models fast, model-2; upstreams one; 60/minute; 4 at a time; 1000000 tokens/day")
    change = ("keys", "change", "laptop")
    assert installation.run(*change, "--concurrent", "5", "--clear", "model", "--clear", "expires").returncode == 0
    assert listed(installation) == [None, None, ["one"], 60, 5, 1000000, None]
    assert installation.run(*change, "--expires", "2345-06-07T08:09:10+00:00").returncode == 0
    assert listed(installation)[0] == 11847456550
    assert installation.run("upstreams", "remove", "one", "--yes").returncode == 0
    assert listed(installation)[2][0].startswith("up_")  # it may use what is gone, and nothing else


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("create b --expires soon", "'soon' is neither a span such as 30d or 12h nor a date such as 2030-12-31."),
        ("create b --expires 2020-01-01", "'2020-01-01' is over."),
        ("create b --expires 999999w", "must be in the future"),
        ("create b --concurrent 0", "0 is not in the range x>=1"),
        ("create b --requests-per-minute many", "'many' is not a valid integer"),
        ("create b --requests-per-minute 1000001", "a whole number from 1 to 1000000"),
        ("create b --upstream nowhere", "There is no upstream named 'nowhere'."),
        ("change a --clear model --model m", "--model is both set and cleared."),
        ("change a", "There is nothing to change."),
        ("change b --clear model", "There is no API key named 'b'."),
    ],
)
def test_what_makes_no_sense(installation, command, says):
    if command.startswith("change a"):
        installation.run("keys", "create", "a")
    done = installation.run("keys", *command.split())
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert says in done.stderr and "Traceback" not in done.stderr


# ----------------------------------------------------------------------------------------------------------- the store
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("expires_at", 1_700_000_000),
        ("expires_at", 10**12),
        ("expires_at", "2030-01-01"),
        ("models", []),
        ("models", "model-1"),
        ("models", ["model-1", 2]),
        ("models", ["\ud83d"]),
        ("models", [" "]),
        ("upstreams", ["nowhere"]),
        ("upstreams", {}),
        ("requests_per_minute", 0),
        ("requests_per_minute", True),
        ("concurrent_requests", -1),
        ("concurrent_requests", 2**64),
        ("tokens_per_day", 1.5),
        ("shows_account", 1),
        ("name", "another"),
        ("key_hash", "0" * 64),
    ],
)
def test_options_that_are_refused(database, option, value):
    name = uuid.uuid4().hex
    key = keys.create(database, name)
    before = keys.recognise(database, key)
    for act, named in ((keys.create, uuid.uuid4().hex), (keys.change, name)):
        with pytest.raises(GatewayError) as caught:
            act(database, named, {option: value})
        assert (caught.value.status, caught.value.param) == (400, option)
    assert keys.recognise(database, key) == before


def test_changes_take_effect_at_once(database):
    name = uuid.uuid4().hex
    key = keys.create(database, name, {"models": ["b", "a", "b"], "tokens_per_day": 10**15})
    found = keys.recognise(database, key)
    assert (found.models, found.upstreams, found.limits.tokens_per_day) == (frozenset("ab"), None, 10**15)
    keys.change(database, name, {"models": None, "concurrent_requests": 1})
    found = keys.recognise(database, key)
    assert (found.models, found.limits.tokens_per_day, found.limits.concurrent_requests) == (None, 10**15, 1)
    keys.change(database, name, {})
    assert keys.recognise(database, key) == found
    for options in ({}, {"models": None}):
        with pytest.raises(GatewayError) as caught:
            keys.change(database, uuid.uuid4().hex, options)
        assert caught.value.status == 404


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
    assert installation.run("upstreams", "remove", "one", "--yes").returncode == 0
    (_, left) = installation.run("upstreams", "list").stdout.splitlines()
    assert left.split()[:3] == ["two", "canned", "yes"]
