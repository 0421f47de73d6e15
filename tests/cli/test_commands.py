"""Commands: a change is reported, a deletion asks first, and an empty list names the next step."""

import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
import uuid

import pytest

from floway_core.storage import keys, last_use
from floway_core.storage.db import connect, transaction
from floway_core.storage.usage import UsageBuffer
from floway_core.testing import ApiClient, Installation, Reply, message_stream
from floway_core.testing.processes import start

PATIENCE = 60


@pytest.fixture(scope="module")
def prepared_data_dir(plugin_folder):
    """The data folder of an installation with a key ``me`` and two upstreams, to be copied."""
    with Installation(plugin_folders=[plugin_folder]) as template:
        for command in ("keys create me", "add-wire one", "add-canned two", "aliases set fast canned"):
            assert template.run(*command.split()).returncode == 0
        yield template.data_dir


@pytest.fixture
def installation(install, plugin_folder, journal_file, prepared_data_dir):
    """With a key ``me`` and two upstreams."""
    made = install(plugin_folders=[plugin_folder], environ={"TEST_JOURNAL": str(journal_file)})
    shutil.copytree(prepared_data_dir, made.data_dir)
    return made


def in_terminal(installation, answer, *arguments):
    """(exit status, standard error) of a command whose standard input is a terminal."""
    here, there = pty.openpty()
    with tempfile.TemporaryFile("w+") as told, open(os.devnull, "w") as nothing:
        streams = {"stdin": there, "stdout": nothing.fileno(), "stderr": told.fileno()}
        process = start(arguments, installation.environ, installation.folder, **streams)
        os.close(there)
        os.write(here, answer)
        status = process.wait(PATIENCE)
        os.close(here)
        told.seek(0)
        return status, told.read()


def names(installation, group):
    return [row["name"] for row in json.loads(installation.run(group, "list", "--json").stdout)]


# ------------------------------------------------------------------------------------------------- what changes says so
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("keys change me --concurrent 3", "The key 'me' is changed."),
        ("keys revoke me", "The key 'me' is revoked."),
        ("keys delete me --yes", "The key 'me' and its conversations are deleted."),
        ("upstreams disable one", "The upstream 'one' is disabled."),
        ("upstreams enable one", "The upstream 'one' is enabled."),
        ("upstreams move two 1", "The upstream 'two' is at position 1 of 2."),
        ("upstreams move one 9", "The upstream 'one' is at position 2 of 2."),
        ("upstreams prefix one p", "Clients request p/MODEL to use the upstream 'one'."),
        ("upstreams prefix one", "Clients request MODEL without a prefix to use the upstream 'one'."),
        ("upstreams rename one uno", "The upstream 'one' is renamed to 'uno'."),
        ("upstreams remove one --yes", "The upstream 'one' is removed."),
        ("aliases set near canned", "'near' is an alias for canned."),
        ("aliases remove fast", "The alias 'fast' is removed."),
        ("retention run", "Deleted 0 expired conversations."),
        ("migrate", "The database schema is up to date."),
    ],
)
def test_a_change_is_one_line(installation, command, says):
    done = installation.run(*command.split())
    assert (done.returncode, done.stdout + done.stderr) == (0, f"{says}\n")


# ------------------------------------------------------------------------------------------------------ what gets lost
LOSSES = [
    ("keys delete me", "keys", "me", "the key 'me' and all conversations"),
    ("upstreams remove one", "upstreams", "one", "the upstream 'one' and the credentials"),
]


@pytest.mark.parametrize(("command", "group", "name", "loss"), LOSSES)
def test_nothing_is_lost_without_a_terminal_to_ask_on(installation, command, group, name, loss):
    done = installation.run(*command.split(), typed="y\n")
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "") and loss in line and "--yes" in line
    assert name in names(installation, group)
    assert installation.run(*command.split(), "--yes").returncode == 0
    assert name not in names(installation, group)


@pytest.mark.parametrize(("command", "group", "name", "loss"), LOSSES)
def test_in_a_terminal_it_is_asked(installation, command, group, name, loss):
    for answer in (b"n\n", b"\n", b"\x04"):
        status, told = in_terminal(installation, answer, *command.split())
        assert status == 1 and loss in told and "Aborted" in told, told
    assert name in names(installation, group)
    assert in_terminal(installation, b"y\n", *command.split())[0] == 0
    assert name not in names(installation, group)


@pytest.mark.parametrize("command", ["keys delete nobody", "upstreams remove nobody"])
def test_nobody_is_asked_about_what_is_not_there(installation, command):
    done = installation.run(*command.split())
    assert done.returncode == 1 and "named 'nobody'" in done.stderr and "--yes" not in done.stderr


# -------------------------------------------------------------------------------------------------------- what is empty
@pytest.mark.parametrize(
    ("command", "next_step"),
    [
        ("keys list", "floway keys create NAME"),
        ("upstreams list", "floway upstreams add wire --help"),
        ("models", "floway upstreams add wire --help"),
        ("aliases list", "floway aliases set NAME MODEL"),
        ("usage", "There is no usage yet"),
        ("usage --since 1d", "There is no usage since"),
    ],
)
def test_an_empty_list_says_what_to_do(install, plugin_folder, command, next_step):
    installation = install(plugin_folders=[plugin_folder])
    done = installation.run(*command.split())
    (line,) = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "") and next_step in line
    assert json.loads(installation.run(*command.split(), "--json").stdout) in ([], {})


def test_empty_lists_without_a_plugin_and_with_all_upstreams_disabled(install, installation):
    bare = install()
    for command in ("plugins", "upstreams list", "models"):
        assert "pip install floway-PROVIDER" in bare.run(*command.split()).stdout
    for name in ("one", "two"):
        assert installation.run("upstreams", "disable", name).returncode == 0
    assert "floway upstreams enable NAME" in installation.run("models").stdout


# -------------------------------------------------------------------------------------------------------------- renamed
def test_keys_and_aliases_go_on_with_an_upstream_that_is_renamed(start_gateway, plugin_folder, journal_file):
    gateway = start_gateway(plugin_folders=[plugin_folder], environ={"TEST_JOURNAL": str(journal_file)})
    for command in ("add-canned one", "add-wire two", "aliases set fast canned@one"):
        assert gateway.run(*command.split()).returncode == 0
    key = gateway.run("keys", "create", "limited", "--upstream", "one").stdout.strip()
    assert gateway.run("upstreams", "rename", "one", "a new / name").returncode == 0
    assert names(gateway, "upstreams") == ["a new / name", "two"]
    assert ApiClient(gateway.url, key).create(model="fast").status == 200
    assert json.loads(gateway.run("keys", "list", "--json").stdout)[1]["upstreams"] == ["a new / name"]
    assert "canned@a new / name" in gateway.run("aliases", "list").stdout


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("one", "two", "already an upstream named 'two'"),
        ("nobody", "new", "no upstream named 'nobody'"),
        ("one", "", "short printable text"),
        ("one", " ", "short printable text"),
        ("one", "a\nb", "short printable text"),
        ("one", "x" * 256, "short printable text"),
    ],
)
def test_what_is_no_new_name(installation, old, new, says):
    done = installation.run("upstreams", "rename", old, new)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and says in line
    assert names(installation, "upstreams") == ["one", "two"]


# ------------------------------------------------------------------------------------------------- what happened lately
def test_the_last_use_of_a_key_and_the_last_try_of_an_upstream(
    start_gateway, plugin_folder, journal_file, fake_upstream
):
    """The server stores them by and by: at the latest when it stops."""
    gateway = start_gateway(plugin_folders=[plugin_folder], environ={"TEST_JOURNAL": str(journal_file)})
    for command in ("add-wire one", "add-canned two", "keys create unused"):
        assert gateway.run(*command.split()).returncode == 0
    fake_upstream.script(Reply(message_stream()))
    assert ApiClient(gateway.url, gateway.key, {"x-test-upstream": fake_upstream.url}).create().status == 200
    assert gateway.stop() == 0

    used, unused = json.loads(gateway.run("keys", "list", "--json").stdout)
    assert used["last_used_at"] >= used["created_at"] and unused["last_used_at"] is None
    _, first, second = gateway.run("keys", "list").stdout.splitlines()
    assert first.split()[4:6] != ["-", "-"] and second.split()[4] == "-"
    one, two = json.loads(gateway.run("upstreams", "list", "--json").stdout)
    assert one["tried_at"] >= used["created_at"] and one["failure"] is None and two["tried_at"] is None
    _, first, second = gateway.run("upstreams", "list").stdout.splitlines()
    assert " answered 20" in first and second.endswith("unknown until a request or a test")


def test_an_upstream_that_fails_is_not_called_ready(start_gateway, plugin_folder, journal_file, unreachable):
    gateway = start_gateway(plugin_folders=[plugin_folder], environ={"TEST_JOURNAL": str(journal_file)})
    assert gateway.run("add-wire", "one").returncode == 0
    assert ApiClient(gateway.url, gateway.key, {"x-test-upstream": unreachable}).create().status == 502
    assert gateway.stop() == 0
    (row,) = json.loads(gateway.run("upstreams", "list", "--json").stdout)
    assert row["problem"] is None and row["tried_at"] and row["failure"] == "It cannot be reached."
    line = gateway.run("upstreams", "list").stdout.splitlines()[1]
    assert " failed 20" in line and line.endswith(": It cannot be reached.")
    assert gateway.run("upstreams", "test", "one").returncode == 0
    assert " answered 20" in gateway.run("upstreams", "list").stdout.splitlines()[1]


def test_the_same_is_stored_once_a_minute(database):
    """However often it happens; and what happened later, in another process, stays."""
    key, now = uuid.uuid4().hex, int(time.time())
    keys.create(database, key)
    pending = UsageBuffer()
    for _ in range(3):
        pending.last_use.note_key_use(key)
    assert len(pending.last_use.drain()) == 1
    pending.last_use.note_key_use(key)
    assert pending.last_use.drain() == {}
    for moment, stored in ((now, now), (now - 100, now), (now + 100, now + 100)):
        with transaction(database):
            last_use.store(database, {("key", key): (moment, "")})
        assert keys.find(database, key).last_used_at == stored


def test_what_cannot_be_stored_waits(database, new_sqlite):
    key, pending = uuid.uuid4().hex, UsageBuffer()
    keys.create(database, key)
    pending.last_use.note_key_use(key)
    assert not pending.flush(connect(new_sqlite()))  # it has no tables
    assert pending.flush(database) and keys.find(database, key).last_used_at


def test_commands_start_without_the_web_framework():
    """Importing it takes half as long as everything else that a command imports."""
    code = "import sys, floway_core.cli; print([name for name in ('flask', 'gunicorn') if name in sys.modules])"
    command, options = [sys.executable, "-c", code], {"stdin": subprocess.DEVNULL, "timeout": PATIENCE, "text": True}
    assert subprocess.check_output(command, **options) == "[]\n"
