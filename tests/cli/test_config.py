"""Settings: their sources, and the messages for wrong ones."""

import json
import re
import socket
from pathlib import Path

import pytest

from floway_core.runtime.settings_loader import CLIENT_VARIABLES
from floway_core.settings import CORE_SETTINGS, origin_url
from floway_core.testing import Installation

FOLDER = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installation(plugin_folder):
    with Installation(plugin_folders=[plugin_folder]) as made:
        yield made


@pytest.fixture
def shown(installation):
    """The settings as ``floway config --json`` shows them."""

    def run(**environ):
        done = installation.run("config", "--json", environ=environ)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def rejected(installation):
    """The one line with which wrong settings are refused."""

    def run(**environ):
        done = installation.run("config", environ=environ)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: ")
        return line

    return run


MALFORMED = [
    ("WORKERS", ["0", "-1", "two", "1.5", " 1", "1_000", "٣"], "a whole number from 1"),
    ("MAX_BODY_BYTES", ["64M", "0"], "a whole number from 1"),
    ("HISTORY_CACHE_BYTES", ["-1", "32M", "00", "1.5"], "a whole number from 0"),
    ("IDLE_TIMEOUT", ["0", "-1", "soon", "1e3", "inf", "nan", "0.0"], "a positive number of seconds"),
    ("BIND", ["localhost", ":80", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:http", "unix:"], "HOST:PORT"),
    ("LOG_LEVEL", ["loud", "1"], "debug, info, warning or error"),
    ("DATABASE_URL", ["  "], "sqlite:///PATH"),
    ("WIRE_URL", ["example.org", "ftp://example.org", "http://example.org", "https://a?b"], "an https URL"),
    ("WIRE_LIMIT", ["many"], "a whole number from 1"),
]


def is_rejected_by_name(rejected, name, value, expected):
    line = rejected(**{f"FLOWAY_{name}": value})
    assert f"FLOWAY_{name} (environment)" in line and expected in line
    assert name == "DATABASE_URL" or repr(value) in line


@pytest.mark.parametrize(("name", "values", "expected"), MALFORMED)
def test_a_malformed_value_names_the_setting(rejected, name, values, expected):
    is_rejected_by_name(rejected, name, values[0], expected)


@pytest.mark.soak
@pytest.mark.parametrize(("name", "values", "expected"), MALFORMED)
def test_every_malformed_value_names_the_setting(rejected, name, values, expected):
    for value in values[1:]:
        is_rejected_by_name(rejected, name, value, expected)


@pytest.mark.parametrize("credentials", ["user", "user:password", ":password", ""])
def test_the_url_of_an_upstream_has_no_credentials(credentials):
    with pytest.raises(ValueError, match="an https URL"):
        origin_url(f"https://{credentials}@example.org")


@pytest.mark.parametrize("server", ["h:99999", "h:0", "h:port", "[::1", ":443", ""])
def test_the_url_of_an_upstream_has_a_server(server):
    with pytest.raises(ValueError, match=r"^an https URL$"):
        origin_url(f"https://{server}/v1")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://a:s3cret@b/c",
        "sqlite://relative.db",
        "sqlite:///:memory:",
        "s3cret",
        "postgresql://a:s3cret@b",
        "postgresql://a:s3cret@b:port/c",
        "postgresql://a:s3cret@[b/c",
    ],
)
def test_a_database_that_is_not_offered(installation, url):
    for command in ("migrate", "config"):
        done = installation.run(command, environ={"FLOWAY_DATABASE_URL": url})
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "FLOWAY_DATABASE_URL" in line and "is not sqlite:///PATH or postgresql://" in line
        assert "s3cret" not in line


@pytest.mark.parametrize(
    ("variable", "hint"),
    [("FLOWAY_WORKER", "FLOWAY_WORKERS"), ("FLOWAY_IDLE_TIME_OUT", "FLOWAY_IDLE_TIMEOUT"),
     ("FLOWAY_WIRE_URI", "FLOWAY_WIRE_URL"), ("FLOWAY_BIND_FILE", "FLOWAY_BIND")],
)  # fmt: skip
def test_an_unknown_setting_suggests_a_known_one(rejected, variable, hint):
    line = rejected(**{variable: "1"})
    assert f"{variable} is not a setting." in line and f"Did you mean {hint}?" in line


def test_what_clients_need_in_the_same_shell_is_left_alone(shown, installation):
    """The documentation has ``FLOWAY_API_KEY`` exported, and then further commands run."""
    pages = (FOLDER / "README.md").read_text() + (FOLDER / "docs" / "clients.md").read_text()
    exported = set(re.findall(r"env_key = \"(\w+)\"|\\$(FLOWAY_[A-Z_]*KEY)", pages))
    names = {name for pair in exported for name in pair if name}
    assert names == {"FLOWAY_API_KEY"} <= CLIENT_VARIABLES
    assert {"FLOWAY_BASE_URL", "FLOWAY_API_BASE", "FLOWAY_MODEL"} <= CLIENT_VARIABLES
    environ = {**dict.fromkeys(CLIENT_VARIABLES, "anything at all"), "FLOWAY_API_KEY_FILE": "/nowhere"}
    assert shown(**environ) == shown()
    assert installation.run("keys", "list", environ=environ).returncode == 0
    done = installation.run("doctor", environ={"FLOWAY_API_KEY": "sk-floway-hush"})
    assert "FLOWAY_API_KEY: for clients, not used here" in done.stdout and "hush" not in done.stdout


def test_no_setting_is_called_as_clients_call_theirs():
    assert not CLIENT_VARIABLES & {setting.variable for setting in CORE_SETTINGS}


def test_an_unknown_setting_like_no_other(rejected):
    line = "Error: FLOWAY_QQQQ is not a setting. Does it belong to a plugin that is not installed?"
    assert rejected(FLOWAY_QQQQ="1") == line
    assert rejected(FLOWAY_ECHO_BASE_URL="1") == line.replace("QQQQ", "ECHO_BASE_URL")


def test_an_empty_variable_counts_as_not_set(shown):
    values = shown(FLOWAY_WORKERS="", FLOWAY_NONSENSE="", FLOWAY_CONFIG="", FLOWAY_SECRET_KEY="")
    assert (values["FLOWAY_WORKERS"], values["FLOWAY_SECRET_KEY"]) == ("2", "(not set)")


def test_values_are_understood(shown):
    values = shown(
        FLOWAY_IDLE_TIMEOUT="2.5", FLOWAY_LOG_LEVEL="DEBUG", FLOWAY_BIND="[::1]:80", FLOWAY_WIRE_URL="https://a/b/"
    )
    assert values["FLOWAY_IDLE_TIMEOUT"] == "2.5"
    assert values["FLOWAY_LOG_LEVEL"] == "debug"
    assert values["FLOWAY_BIND"] == "[::1]:80"
    assert values["FLOWAY_WIRE_URL"] == "https://a/b"


# ---------------------------------------------------------------------------------------------------------- TOML file
@pytest.fixture
def toml(tmp_path):
    """Writes a configuration file and returns its path."""

    def write(content):
        file = tmp_path / "floway.toml"
        file.write_bytes(content)
        return str(file)

    return write


def test_a_file_sets_what_the_environment_does_not(shown, toml):
    file = toml(b'workers = 3\nidle_timeout = 1.5\nlog_level = "error"\nwire_url = "https://example.org"\n')
    values = shown(FLOWAY_CONFIG=file, FLOWAY_LOG_LEVEL="debug")
    assert (values["FLOWAY_WORKERS"], values["FLOWAY_IDLE_TIMEOUT"]) == ("3", "1.5")
    assert values["FLOWAY_WIRE_URL"] == "https://example.org"
    assert values["FLOWAY_LOG_LEVEL"] == "debug"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"worker = 3", "'worker' is not a setting"),
        (b"FLOWAY_WORKERS = 3", "'FLOWAY_WORKERS' is not a setting"),
        (b"workers = true", "workers is not a text or a number"),
        (b"workers = [3]", "workers is not a text or a number"),
        (b"[workers]\na = 1", "workers is not a text or a number"),
        (b"workers = 1.5", "FLOWAY_WORKERS"),
        (b'workers = "many"', "FLOWAY_WORKERS"),
        (b"workers", "cannot be read"),
        (b"workers = '\xff'", "cannot be read"),
    ],
)
def test_a_wrong_file_is_named(rejected, toml, content, says):
    file = toml(content)
    line = rejected(FLOWAY_CONFIG=file)
    assert file in line and says in line


def test_a_missing_file_is_named(rejected, tmp_path):
    for path in (tmp_path / "nowhere.toml", tmp_path):
        line = rejected(FLOWAY_CONFIG=str(path))
        assert "FLOWAY_CONFIG" in line and line.count(str(path)) == 1


# ------------------------------------------------------------------------------------------------------------ secrets
def test_secrets_are_hidden(installation):
    environ = {
        "FLOWAY_SECRET_KEY": "hush-1",
        "FLOWAY_WIRE_TOKEN": "hush-2",
        "FLOWAY_DATABASE_URL": "postgresql://user:hush-3@host/name",
    }
    for arguments in (["config"], ["config", "--json"]):
        done = installation.run(*arguments, environ=environ)
        assert done.returncode == 0
        assert "hush" not in done.stdout + done.stderr
        assert done.stdout.count("(hidden)") == 2 and "user:***@host" in done.stdout


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hu%40sh-3@host/name",
        "postgresql://host/name?user=u&password=hush-3",
        "postgresql://:hush-3@host/n",
    ],
)
def test_a_database_password_is_hidden_wherever_it_stands(installation, url):
    done = installation.run("config", environ={"FLOWAY_DATABASE_URL": url})
    assert done.returncode == 0
    assert "sh-3" not in done.stdout


def test_a_secret_may_stand_in_a_file(shown, tmp_path):
    file = tmp_path / "token"
    file.write_text("hush\n")
    values = shown(FLOWAY_WIRE_TOKEN_FILE=str(file))
    assert (values["FLOWAY_WIRE_TOKEN"], values["FLOWAY_WIRE_TOKEN_FILE"]) == ("(hidden)", str(file))
    values = shown()
    assert (values["FLOWAY_WIRE_TOKEN"], values["FLOWAY_WIRE_TOKEN_FILE"]) == ("(not set)", "(not set)")
    assert values["FLOWAY_SECRET_KEY_FILE"] == "(not set)"


def test_a_secret_in_two_places(rejected, tmp_path):
    file = tmp_path / "token"
    file.write_text("hush")
    line = rejected(FLOWAY_WIRE_TOKEN="hush", FLOWAY_WIRE_TOKEN_FILE=str(file))
    assert "FLOWAY_WIRE_TOKEN and FLOWAY_WIRE_TOKEN_FILE are both set" in line and "hush" not in line


def test_a_secret_file_that_cannot_be_used(rejected, tmp_path):
    assert "FLOWAY_WIRE_TOKEN_FILE" in rejected(FLOWAY_WIRE_TOKEN_FILE=str(tmp_path / "nowhere"))
    (tmp_path / "empty").write_text("\n")
    assert "FLOWAY_WIRE_TOKEN" in rejected(FLOWAY_WIRE_TOKEN_FILE=str(tmp_path / "empty"))


def test_a_malformed_secret_is_not_shown(rejected):
    line = rejected(FLOWAY_WIRE_TOKEN=" \t ")
    assert "FLOWAY_WIRE_TOKEN" in line


def test_a_relative_data_folder_is_made(installation):
    done = installation.run("migrate", environ={"FLOWAY_DATA_DIR": "relative/folder"})
    assert done.returncode == 0
    folder = installation.folder / "relative" / "folder"
    assert (folder / "floway.db").exists()
    assert (folder.stat().st_mode & 0o777, (folder / "secret.key").stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_data_folder_that_cannot_be_made(installation, tmp_path):
    (tmp_path / "file").touch()
    done = installation.run("migrate", environ={"FLOWAY_DATA_DIR": str(tmp_path / "file" / "folder")})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert str(tmp_path / "file" / "folder") in line


def test_an_address_that_is_taken_is_told_in_one_line(installation):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = installation.run("serve", "--bind", address)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{address} is in use; waiting 3 seconds for it to become free",
        f"Error: Floway cannot listen on {address}: Address already in use.",
    ]


@pytest.mark.parametrize("address", ["::1:8788", "127.0.0.1", ":8788", "[::1:8788", "host:123456"])
def test_addresses_that_are_none(rejected, address):
    assert "FLOWAY_BIND" in rejected(FLOWAY_BIND=address)


def test_another_secret_key_than_the_databases_is_noticed_at_once(tmp_path):
    with Installation() as installed:
        assert installed.run("migrate").returncode == 0
        assert installed.run("migrate").returncode == 0
        (installed.data_dir / "secret.key").unlink()
        done = installed.run("keys", "list")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "WARNING" in line and "cannot be decrypted" in line and "secret.key" in line


def test_the_database_is_for_its_owner_alone():
    with Installation() as installed:
        assert installed.run("keys", "create", "me").returncode == 0
        assert {file.stat().st_mode & 0o077 for file in installed.data_dir.iterdir()} == {0}


def test_the_settings_page_lists_every_setting():
    page = (FOLDER / "docs" / "settings.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `FLOWAY_")]
    listed = {name for row in rows for name in re.findall(r"`(FLOWAY_[A-Z_]+)`", row.split("|")[1])}
    files = {f"{setting.variable}_FILE" for setting in CORE_SETTINGS if setting.secret}
    assert listed == {setting.variable for setting in CORE_SETTINGS} | files
