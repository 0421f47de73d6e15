"""The secret key is rotated while servers run: all stored values stay readable, whichever process is killed."""

import shutil
import sqlite3
import threading
from contextlib import closing, contextmanager

import pytest
from cryptography.fernet import Fernet, MultiFernet

from floway_core.secrets import SecretBox, write_keys
from floway_core.storage import encrypted_columns, migrate
from floway_core.storage.db import connect
from floway_core.testing import ApiClient, Installation

from ..support import vault_plugin

pytestmark = pytest.mark.soak  # long: many processes, or many examples


@pytest.fixture(scope="module")
def vault_folder(tmp_path_factory):
    return vault_plugin.write(tmp_path_factory.mktemp("vault") / "plugins")


@pytest.fixture(scope="module")
def set_up(vault_folder):
    """Three accounts, one of them signed out."""
    with Installation(plugin_folders=[vault_folder]) as made:
        for name, token in (("one", "token-1"), ("two", "token-2"), ("three", "")):
            assert made.run("add-vault", name, typed=token).returncode == 0
        yield made


@pytest.fixture
def installation(set_up, install, vault_folder):
    """An installation like that, for one test."""
    made = install(plugin_folders=[vault_folder])
    shutil.copytree(set_up.data_dir, made.data_dir)
    return made


def rows(installation, statement):
    with closing(sqlite3.connect(installation.database)) as database, database:
        return database.execute(statement).fetchall()


def stored(installation):
    return [token for (token,) in rows(installation, "SELECT token FROM vault_tokens ORDER BY upstream_id")]


def keys(installation):
    return (installation.data_dir / "secret.key").read_text().splitlines()


def opened(installation, *with_keys):
    """What is stored, opened with keys; None for what they do not open."""
    box = SecretBox("\n".join(with_keys or keys(installation)))
    return [token and (box.decrypt(token) if box.can_decrypt(token) else None) for token in stored(installation)]


ALL = ["token-1", "token-2", ""]


def rotate(installation, *options, **environ):
    done = installation.run("secrets", "rotate", *options, environ=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(installation, *options, **environ):
    done = installation.run("secrets", "rotate", *options, environ=environ)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def test_everything_is_sealed_anew_and_the_old_key_opens_nothing(installation):
    old = keys(installation)
    assert "2 stored values" in rotate(installation)
    new = keys(installation)[0]
    assert keys(installation) == [new, *old] and new != old[0]
    assert opened(installation, new) == ALL and opened(installation, *old) == [None, None, ""]
    assert "--finish" in refused(installation)
    rotate(installation, "--finish")
    assert keys(installation) == [new] and opened(installation, new) == ALL
    assert (installation.data_dir / "secret.key").stat().st_mode & 0o777 == 0o600
    done = installation.run("upstreams", "list")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("unknown until") == 2


def test_nothing_is_left_in_the_files_that_the_old_key_opens(start_gateway, vault_folder):
    gateway = start_gateway(plugin_folders=[vault_folder])  # keeps the write-ahead log open
    assert gateway.run("add-vault", "one", typed="token-1").returncode == 0
    (before,) = stored(gateway)
    rotate(gateway)
    files = [file for file in gateway.data_dir.glob("floway.db*") if not file.name.endswith("-reserve")]
    assert len(files) == 3 and not [file for file in files if before.encode() in file.read_bytes()]


def test_what_is_sealed_with_the_old_key_too_late_is_found_at_the_end(installation):
    (old,) = keys(installation)
    rotate(installation)
    rows(installation, f"UPDATE vault_tokens SET token = '{SecretBox(old).encrypt('token-3')}' WHERE token = ''")
    assert "1 stored value" in rotate(installation, "--finish")
    assert opened(installation) == ["token-1", "token-2", "token-3"]


def test_with_several_hosts_no_process_meets_what_it_cannot_open(installation, install, vault_folder):
    other = install(
        {"database_url": f"sqlite:///{installation.database}"},
        plugin_folders=[vault_folder],
    )
    other.data_dir.mkdir()

    def copied():
        (other.data_dir / "secret.key").write_text((installation.data_dir / "secret.key").read_text())
        return other.run("upstreams", "list")

    assert copied().stdout.count("unknown until") == 2
    (old,) = keys(installation)
    rotate(installation, "--prepare")
    assert keys(installation)[0] == old and len(keys(installation)) == 2 and opened(installation, old) == ALL
    assert "--finish" in refused(installation, "--prepare") and "nothing is encrypted" in (
        refused(installation, "--finish").lower()
    )
    assert copied().stdout.count("unknown until") == 2
    rotate(installation)
    assert keys(installation)[1:] == [old]
    assert other.run("upstreams", "list").stdout.count("unknown until") == 2  # with the file of the first step
    assert copied().stdout.count("unknown until") == 2
    rotate(installation, "--finish")
    assert other.run("upstreams", "list").stdout.count("unknown until") == 2  # with that of the second
    assert copied().stdout.count("unknown until") == 2 and old not in keys(other)


def test_a_host_that_was_forgotten_does_no_harm(installation, install, vault_folder):
    other = install({"database_url": f"sqlite:///{installation.database}"}, plugin_folders=[vault_folder])
    other.data_dir.mkdir()
    (other.data_dir / "secret.key").write_text(keys(installation)[0])
    rotate(installation)
    rotate(installation, "--finish")
    before = keys(other)
    done = other.run("secrets", "rotate")
    assert done.returncode == 1 and "not the key of this database" in done.stderr.splitlines()[-1]
    assert opened(installation) == ALL and keys(other) == before


# ------------------------------------------------------------------------------------------------------------ crashes
MOMENTS = [
    "call secrets.py write_keys 1",  # nothing has happened yet
    "return secrets.py write_keys 1",  # both keys are in the file, nothing is sealed anew
    "return secrets.py encrypt 2",  # in the middle of the transaction
    "return encrypted_columns.py _add_check 1",  # it is about to be committed
    "return encrypted_columns.py reencrypt 1",  # everything is sealed anew
]
LATE_MOMENTS = [
    "return secrets.py write_keys 1",  # the old key is gone from the file, the database still knows it
    "return encrypted_columns.py retire_older_keys 1",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_rotation_that_is_killed_can_be_run_again(installation, moment):
    (old,) = keys(installation)
    assert installation.run("secrets", "rotate", environ={"TEST_DIE": moment}).returncode == -9
    assert opened(installation) == ALL
    assert opened(installation, old) == (ALL if moment != MOMENTS[-1] else [None, None, ""])
    again = installation.run("secrets", "rotate")
    assert again.returncode == 0 or "--finish" in again.stderr
    rotate(installation, "--finish")
    (new,) = keys(installation)
    assert new != old and opened(installation, new) == ALL


@pytest.mark.parametrize("moment", LATE_MOMENTS)
def test_so_can_its_end(installation, moment):
    rotate(installation)
    new = keys(installation)[0]
    assert installation.run("secrets", "rotate", "--finish", environ={"TEST_DIE": moment}).returncode == -9
    assert opened(installation) == ALL
    rotate(installation, "--finish")
    assert keys(installation) == [new] and opened(installation, new) == ALL
    assert rows(installation, "SELECT COUNT(*) FROM secret_checks") == [(1,)]


def test_what_an_absent_plugin_has_sealed_is_not_lost(installation, install):
    without = install()
    shutil.copytree(installation.data_dir, without.data_dir)
    for step in ([], ["--prepare"], ["--finish"]):
        assert "not installed (vault)" in refused(without, *step)
    assert keys(without) == keys(installation)
    shutil.rmtree(without.data_dir)
    assert installation.run("migrate", "--to", "vault/0", "--yes").returncode == 0
    shutil.copytree(installation.data_dir, without.data_dir)
    rotate(without)


def test_what_no_key_opens_stays_and_is_told(installation):
    rows(installation, "UPDATE vault_tokens SET token = 'broken' WHERE token = ''")
    done = installation.run("secrets", "rotate")
    assert done.returncode == 0 and "1 in vault_tokens.token cannot be decrypted" in done.stderr
    assert opened(installation) == ["token-1", "token-2", None]


# ------------------------------------------------------------------------------------------------------ running servers
def test_a_key_that_is_replaced_in_the_file_is_used_from_then_on(tmp_path):
    file = tmp_path / "secret.key"
    file.write_text("old\n")
    box = SecretBox("old", file)
    early = box.encrypt("text")
    write_keys(file, ["new", "old"])
    assert SecretBox("new").decrypt(box.encrypt("text")) == box.decrypt(early) == "text"
    file.unlink()
    assert box.decrypt(box.encrypt("text")) == "text"


def test_threads_that_meet_a_new_key_at_the_same_time(tmp_path, monkeypatch):
    """Between the failure of one and its look at the file, another has read it anew."""
    file = tmp_path / "secret.key"
    file.write_text("old")
    slow = SecretBox("old", file)
    write_keys(file, ["new", "old"])
    encrypted, decrypt = SecretBox("new").encrypt("text"), MultiFernet.decrypt

    def overtaken(ring, token):
        monkeypatch.undo()
        assert slow.decrypt(encrypted) == "text"
        return decrypt(ring, token)

    monkeypatch.setattr(MultiFernet, "decrypt", overtaken)
    assert slow.decrypt(encrypted) == "text"


def test_servers_go_on_serving_meanwhile(start_gateway, vault_folder):
    gateway = start_gateway({"workers": "2"}, plugin_folders=[vault_folder])
    assert gateway.run("add-vault", "one", typed="token-1").returncode == 0
    (old,) = keys(gateway)
    asked = threading.Event()
    done = threading.Event()
    answers = []

    def ask():
        caller = ApiClient(gateway.url, gateway.key)
        while not done.is_set():
            answers.append(caller.create(model="vault").body)
            asked.set()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for step in ([], ["--finish"]):
            asked.clear()
            assert asked.wait(20)
            rotate(gateway, *step)
        asked.clear()
        assert asked.wait(20)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert len(answers) > 4 and not [answer for answer in answers if b"token-1" not in answer]
    assert old not in keys(gateway) and opened(gateway) == ["token-1"]
    assert "decrypted" not in gateway.log


# ------------------------------------------------------------------------------------------------- keys in the settings
def test_a_key_in_the_settings_is_the_operators_to_change(install, vault_folder):
    installation = install(plugin_folders=[vault_folder])
    old, new = {"FLOWAY_SECRET_KEY": "old"}, {"FLOWAY_SECRET_KEY": "new"}
    both = {"FLOWAY_SECRET_KEY": "new\nold"}
    assert installation.run("add-vault", "one", typed="token-1", environ=old).returncode == 0
    assert "above it" in refused(installation, **old)
    assert "1 stored value" in rotate(installation, **both)
    assert opened(installation, "new") == ["token-1"]
    assert "remove its line" in rotate(installation, "--finish", **both)
    rotate(installation, "--finish", **new)
    assert not (installation.data_dir / "secret.key").exists()


def test_finishing_late_forgets_no_newer_key(new_database):
    """Another host may have begun the next rotation meanwhile."""
    database = connect(new_database())
    migrate.apply(database, [migrate.CORE])
    keys = [Fernet.generate_key().decode() for _ in range(3)]
    assert encrypted_columns.is_current(database, SecretBox(keys[0]))
    for newest in (keys[1], keys[2]):
        encrypted_columns.reencrypt(database, [], [newest, *keys])
    encrypted_columns.retire_older_keys(database, keys[1])
    assert [encrypted_columns.find_unused_keys(database, [key]) for key in keys] == [[keys[0]], [], []]
    assert encrypted_columns.is_current(database, SecretBox(keys[2])) and not encrypted_columns.is_current(
        database, SecretBox(keys[1])
    )
    database.close_all()


def test_a_host_adopts_its_key_while_another_one_forgets_it(new_database, monkeypatch):
    """Both start for the first time, with data folders of their own."""
    database = connect(new_database())
    migrate.apply(database, [migrate.CORE])
    exclusive = encrypted_columns.exclusive

    @contextmanager
    def overtaken(database):
        with exclusive(database):
            yield
        encrypted_columns.forget_keys(database)

    monkeypatch.setattr(encrypted_columns, "exclusive", overtaken)
    assert encrypted_columns.is_current(database, SecretBox("mine"))
    database.close_all()
