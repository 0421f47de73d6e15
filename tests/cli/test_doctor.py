"""``floway doctor``: each problem is found and reported with a remedy that works."""

import email.utils
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from floway_core.testing import ApiClient, Installation, Reply, write_plugin

from ..support import vault_plugin

pytestmark = pytest.mark.soak  # long: many processes, or many examples

AWAY = '''
"""A provider whose upstream is somewhere else."""

import os

from floway_core.settings import Setting, text
from floway_core.errors import GatewayError
from floway_core.hookspecs import hookimpl
from floway_core.provider import Model, Provider


class Away(Provider):
    kind = "away"

    def list_models(self, upstream):
        return [Model("away", "test")]

    def base_url(self, upstream):
        return os.environ["AWAY_URL"]

    def send(self, ctx):
        raise GatewayError(502, "Never.")


@hookimpl
def register_settings():
    return [Setting("away_thing", text, None, "Nothing.", secret=True)]


@hookimpl
def register_providers(services):
    return [Away()]
'''


@pytest.fixture(scope="module")
def set_up(tmp_path_factory):
    """A data folder with a key and an upstream."""
    folder = vault_plugin.write(tmp_path_factory.mktemp("doctor") / "plugins")
    write_plugin(folder, "away", AWAY)
    with Installation(plugin_folders=[folder]) as made:
        assert made.run("keys", "create", "me").returncode == 0
        assert made.run("upstreams", "add", "away", "far").returncode == 0
        yield folder, made.data_dir


@pytest.fixture
def installation(set_up, install, fake_upstream, tmp_path):
    """One that is well: with a key, and an upstream that can be reached."""
    shutil.copytree(set_up[0], tmp_path / "plugins")
    now = email.utils.formatdate(time.time(), usegmt=True)
    fake_upstream.answer_always("/", Reply([], 404, [("date", now), ("content-length", "0")]))
    made = install(plugin_folders=[tmp_path / "plugins"], environ={"AWAY_URL": f"{fake_upstream.url}/"})
    shutil.copytree(set_up[1], made.data_dir)
    return made


def examined(installation, *, environ=None):
    """(exit status, {check: findings that are not ok}); each of those says how to mend it."""
    done = installation.run("doctor", "--json", environ=environ)
    assert done.stderr == "", done.stderr
    findings = json.loads(done.stdout)
    ill = [finding for finding in findings if finding["status"] != "ok"]
    assert all(finding["remedy"] for finding in ill) and not any(f["remedy"] for f in findings if f["status"] == "ok")
    found = {}
    for finding in ill:
        found.setdefault(finding["check"], []).append(finding)
    assert done.returncode == any(finding["status"] == "fail" for finding in ill)
    return done.returncode, found


def only(installation, check, status, *, environ=None):
    """The one finding that is not ok."""
    returncode, found = examined(installation, environ=environ)
    assert list(found) == [check], found
    (finding,) = found[check]
    assert finding["status"] == status and returncode == (status == "fail")
    return f"{finding['message']} {finding['remedy']}"


def files(installation):
    """Everything in the data folder, and what it holds, but for what SQLite makes when a file is read."""
    return {
        str(file): file.read_bytes()
        for file in installation.folder.rglob("*")
        if file.is_file() and not file.name.endswith(("-wal", "-shm", ".pyc"))
    }


def execute(installation, statement):
    with closing(sqlite3.connect(installation.database)) as database, database:
        database.execute(statement)


def test_a_healthy_installation(installation, fake_upstream):
    before = files(installation)
    done = installation.run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert all(line.startswith("ok    ") for line in lines)
    checks = ["plugins", "settings", "files", "space", "limits", "database", "migrations", "secret key", "API keys"]
    assert [line[6:].partition(":")[0] for line in lines] == [*checks, "upstreams", "clock"]
    assert files(installation) == before
    assert {request.method for request in fake_upstream.requests} == {"HEAD"}
    assert not [name for request in fake_upstream.requests for name, _ in request.headers if name == "authorization"]


def test_nothing_is_there_yet_and_nothing_is_made(install):
    installation = install()
    returncode, found = examined(installation)
    assert returncode == 1 and set(found) == {"files", "database"}
    assert "floway migrate" in found["database"][0]["message"] and not installation.data_dir.exists()


# ------------------------------------------------------------------------------------------------ plugins and settings
def test_plugins_that_keep_floway_from_starting(installation, tmp_path):
    write_plugin(tmp_path / "plugins", "old", "")
    (metadata,) = (tmp_path / "plugins").glob("old_plugin*/METADATA")
    metadata.write_text(metadata.read_text() + "Requires-Dist: floway-core <0.0.1\n")
    write_plugin(tmp_path / "plugins", "broken", "import nothing_of_that_name")
    assert installation.run("keys", "list").returncode == 1
    returncode, found = examined(installation)
    assert returncode == 1 and list(found) == ["plugins"]
    broken, old = (finding["message"] for finding in found["plugins"])
    assert "'broken'" in broken and "'old'" in old and "floway-core <0.0.1" in old


TAKES_A_ROUTE = """
from flask import Blueprint

from floway_core.hookspecs import hookimpl


@hookimpl
def register_routes(services):
    blueprint = Blueprint("taker", __name__)
    blueprint.get("/healthz")(lambda: "Mine.")
    return [blueprint]
"""


PICKY = '''"""A provider whose settings do not fit together."""

from floway_core.hookspecs import hookimpl
from floway_core.settings import SettingsError


@hookimpl
def register_providers(services):
    raise SettingsError("FLOWAY_PICKY_A: 1 does not fit FLOWAY_PICKY_B.")
'''


def test_a_setting_that_a_plugin_refuses_at_the_start(installation, tmp_path):
    write_plugin(tmp_path / "plugins", "picky", PICKY)
    message = "FLOWAY_PICKY_A: 1 does not fit FLOWAY_PICKY_B."
    assert only(installation, "settings", "fail").startswith(message)
    served = installation.run("serve", "--bind", "127.0.0.1:0")
    assert served.returncode == 1 and served.stderr == f"Error: {message}\n"


def test_a_plugin_that_takes_a_route(installation, tmp_path):
    write_plugin(tmp_path / "plugins", "taker", TAKES_A_ROUTE)
    told = only(installation, "plugins", "fail")
    assert "Plugin 'taker' serves GET /healthz, which core serves already." in told
    served = installation.run("serve", "--bind", "127.0.0.1:0")
    assert served.returncode == 1 and "Plugin 'taker' serves GET /healthz" in served.stderr


def test_all_wrong_settings_at_once(installation):
    wrong = {
        "FLOWAY_WORKER": "1",
        "FLOWAY_THREADS": "many",
        "FLOWAY_GONE_URL": "https://x",
        "FLOWAY_AWAY_THING": "hush",
    }
    returncode, found = examined(installation, environ=wrong)
    assert returncode == 1 and list(found) == ["settings"]
    gone, threads, worker = (finding["message"] for finding in found["settings"])
    assert "plugin that is not installed" in gone and "FLOWAY_THREADS" in threads and "FLOWAY_WORKERS?" in worker


def test_a_configuration_file_that_cannot_be_read(installation):
    assert "/nowhere" in only(installation, "settings", "fail", environ={"FLOWAY_CONFIG": "/nowhere"})


# --------------------------------------------------------------------------------------------------- files and limits
def test_files_that_others_may_read(installation):
    modes = {installation.data_dir: 0o755, installation.data_dir / "secret.key": 0o644, installation.database: 0o640}
    for file, mode in modes.items():
        file.chmod(mode)
    returncode, found = examined(installation)
    assert returncode == 1 and list(found) == ["files"]
    for finding in found["files"]:
        assert finding["remedy"].startswith("chmod ")
        assert os.system(finding["remedy"]) == 0
    assert examined(installation) == (0, {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_somebody_else(installation):
    os.chown(installation.database, 12345, 12345)
    assert "chown root" in only(installation, "files", "warn")


def test_a_data_folder_that_cannot_be_used(installation, tmp_path):
    (tmp_path / "file").write_text("")
    environ = {"FLOWAY_DATA_DIR": str(tmp_path / "file")}
    returncode, found = examined(installation, environ=environ)
    assert returncode == 1 and set(found) == {"files", "database"}
    assert "cannot be used: Not a directory" in found["files"][0]["message"]
    assert "as the owner" in found["files"][0]["remedy"]
    done = installation.run("keys", "list", environ=environ)  # it does not say that there are none
    assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can give up root's powers")
def test_a_data_folder_of_somebody_else(installation):
    installation.data_dir.chmod(0)
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "floway_core"]
    for arguments in (["keys", "list"], ["doctor"]):
        done = subprocess.run(
            [*command, *arguments], env=installation.environ, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 1 and "cannot be used: Permission denied" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_more_streams_than_the_system_allows(installation):
    command = ["sh", "-c", 'ulimit -n 1500; exec "$@"', "sh", sys.executable, "-m", "floway_core", "doctor"]
    done = subprocess.run(command, env=installation.environ, capture_output=True, text=True, timeout=30)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("warn")]
    assert "open files, and the limit is 1500." in line and "LimitNOFILE=" in done.stdout
    assert done.returncode == 0


# ---------------------------------------------------------------------------------------------------------- database
def test_a_damaged_database(installation):
    installation.database.write_bytes(installation.database.read_bytes()[:8192] + b"x" * 20_000)
    returncode, found = examined(installation)
    assert returncode == 1 and list(found) == ["database"]


def test_another_journal_mode(installation):
    execute(installation, "PRAGMA journal_mode=delete")
    assert "not wal" in only(installation, "database", "warn")


def test_a_server_that_cannot_be_reached(installation):
    url = "postgresql://user:s3cret@127.0.0.1:1/name"
    told = only(installation, "database", "fail", environ={"FLOWAY_DATABASE_URL": url})
    assert "user:***@127.0.0.1" in told and "s3cret" not in told


def test_migrations_that_are_pending_or_unknown(installation):
    execute(installation, "UPDATE floway_migrations SET name = '9999_later' WHERE id = 1")
    assert "9999_later" in only(installation, "migrations", "fail")
    execute(installation, "DELETE FROM floway_migrations WHERE name = '9999_later'")
    assert "floway/0001" in only(installation, "migrations", "warn")


# ---------------------------------------------------------------------------------------------------------- secret key
def test_a_secret_key_that_is_lost_or_wrong(installation):
    assert installation.run("add-vault", "safe", typed="token-1").returncode == 0
    file = installation.data_dir / "secret.key"
    key = file.read_text()
    file.unlink()
    assert "cannot be read" in only(installation, "secret key", "fail") and not file.exists()
    file.write_text("another\n")
    file.chmod(0o600)
    assert "backup" in only(installation, "secret key", "fail")
    file.write_text(key)
    assert examined(installation) == (0, {})
    execute(installation, "UPDATE vault_tokens SET token = 'broken'")
    assert "vault_tokens.token" in examined(installation)[1]["secret key"][0]["message"]


def test_a_key_of_another_database_is_not_called_an_old_one(installation, tmp_path):
    """And where it comes from is told: it is there that it has to be corrected."""
    assert installation.run("add-vault", "safe", typed="token-1").returncode == 0
    own = installation.data_dir / "secret.key"
    elsewhere = tmp_path / "elsewhere.key"
    elsewhere.write_text("hush-2\n")
    elsewhere.chmod(0o600)
    table = tmp_path / "floway.toml"
    table.write_text('secret_key = "hush-3"\n')
    for environ, origin in (
        ({"FLOWAY_SECRET_KEY": "hush-1"}, "FLOWAY_SECRET_KEY"),
        ({"FLOWAY_SECRET_KEY_FILE": str(elsewhere)}, "FLOWAY_SECRET_KEY_FILE"),
        ({"FLOWAY_CONFIG": str(table)}, f"secret_key in {table}"),
    ):
        told = only(installation, "secret key", "fail", environ=environ)
        assert "not the key of this database" in told and f"It comes from {origin}." in told
        assert f"Unset {origin}: the key in {own} is the right one." in told
        assert "rotated" not in told and "hush" not in told
    own.write_text("another\n")
    told = only(installation, "secret key", "fail")
    assert "not the key of this database" in told and f"It comes from {own}." in told and "backup" in told
    own.unlink()
    told = only(installation, "secret key", "fail", environ={"FLOWAY_SECRET_KEY": "hush-1"})
    assert "Correct FLOWAY_SECRET_KEY." in told and "backup" in told and "rotated" not in told


def test_a_key_that_has_been_rotated_is_called_an_old_one(installation):
    assert installation.run("add-vault", "safe", typed="token-1").returncode == 0
    own = installation.data_dir / "secret.key"
    old = own.read_text()
    assert installation.run("secrets", "rotate").returncode == 0
    new = own.read_text()
    own.write_text(old)
    assert "has been rotated since" in only(installation, "secret key", "fail")
    assert "rotated since" in installation.run("secrets", "rotate").stderr
    own.write_text(new)
    assert installation.run("secrets", "rotate", "--finish").returncode == 0
    own.write_text(old)  # nothing knows it any more
    assert "not the key of this database" in only(installation, "secret key", "fail")


def test_a_rotation_that_was_not_finished(installation):
    assert installation.run("secrets", "rotate").returncode == 0
    assert "--finish" in only(installation, "secret key", "warn")


# ------------------------------------------------------------------------------------------------ keys and upstreams
def test_no_key_and_no_upstream(installation):
    assert installation.run("keys", "revoke", "me").returncode == 0
    assert installation.run("upstreams", "disable", "far").returncode == 0
    returncode, found = examined(installation)
    assert returncode == 1 and list(found) == ["API keys", "upstreams"]


def test_upstreams_that_cannot_serve(installation, unreachable):
    execute(installation, "UPDATE upstreams SET kind = 'gone'")
    assert "'gone' is not installed" in only(installation, "upstreams", "fail")
    execute(installation, "UPDATE upstreams SET kind = 'away'")
    told = only(installation, "upstreams", "fail", environ={"AWAY_URL": unreachable})
    assert f"far: The upstream {unreachable} cannot be reached" in told
    assert installation.run("add-vault", "safe", typed="").returncode == 0
    assert "safe: The vault is signed out" in only(installation, "upstreams", "fail")


@pytest.mark.parametrize(("ahead", "status"), [(100, "warn"), (-4000, "fail")])
def test_a_clock_that_is_wrong(installation, fake_upstream, ahead, status):
    then = email.utils.formatdate(time.time() - ahead, usegmt=True)
    fake_upstream.answer_always("/", Reply([], 200, [("date", then), ("content-length", "0")]))
    assert ("ahead of" if ahead > 0 else "behind") in only(installation, "clock", status)


def test_an_alias_that_nobody_serves(installation):
    assert "cannot request it" not in installation.run("aliases", "set", "near", "away", "nothing").stderr
    assert examined(installation) == (0, {})
    assert installation.run("upstreams", "prefix", "far", "x").returncode == 0
    assert "near has no target" in only(installation, "aliases", "warn")
    assert "cannot request it" in installation.run("aliases", "set", "near", "away").stderr
    assert "cannot request it" not in installation.run("aliases", "set", "near", "x/away").stderr


def test_it_looks_at_a_database_that_is_in_use(start_gateway, tmp_path):
    gateway = start_gateway(plugin_folders=[vault_plugin.write(tmp_path / "plugins")])
    assert gateway.run("add-vault", "safe", typed="token-1").returncode == 0
    assert ApiClient(gateway.url, gateway.key).create(model="vault").status == 200
    assert examined(gateway) == (0, {})
