"""A lost or invalid secret key: it is not replaced while stored values need it, and everything else works."""

import os

import pytest

from floway_core.testing import ApiClient, Reply, RunningGateway, message_stream

from ..support import vault_plugin
from ..support.stored_upstreams import add_upstreams
from .test_secrets import rows, stored

pytestmark = pytest.mark.soak  # long: many processes, or waits


@pytest.fixture(scope="module")
def folders(tmp_path_factory, plugin_folder):
    return [vault_plugin.write(tmp_path_factory.mktemp("lost") / "plugins"), plugin_folder]


@pytest.fixture
def installation(install, folders):
    made = install(plugin_folders=folders, environ={"TEST_JOURNAL": os.devnull})
    assert made.run("add-vault", "one", typed="token-1").returncode == 0
    add_upstreams(made, two="wire")
    return made


class RestartedGateway(RunningGateway):
    """A gateway on the data folder of an installation."""

    def __init__(self, installation, **options):
        super().__init__({"data_dir": str(installation.data_dir)}, **options)


@pytest.fixture
def serve(installation, folders):
    started = []

    def run():
        started.append(RestartedGateway(installation, plugin_folders=folders, environ={"TEST_JOURNAL": os.devnull}))
        return started[-1]

    yield run
    for gateway in started:
        assert "Traceback" not in gateway.log
        gateway.__exit__()


def test_a_lost_key_is_not_replaced(installation, serve, fake_upstream):
    """What needs no credentials is served, what does is told, and a key that comes back is used at once."""
    file = installation.data_dir / "secret.key"
    key = file.read_text()
    file.unlink()
    gateway = serve()
    assert not file.exists()
    assert f"missing: the secret key {file}" in gateway.log and "floway secrets init --forget" in gateway.log
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    ask = ApiClient(gateway.url, gateway.key, {"x-test-upstream": fake_upstream.url})
    assert ask.create().status == 200
    assert ask.get("/readyz").json()["upstreams"] == 1
    answer = ask.create(model="vault")
    assert answer.status == 503 and "FLOWAY_SECRET_KEY" not in answer.body.decode()
    done = installation.run("add-vault", "new", typed="token-2")
    assert done.returncode == 1 and "--forget" in done.stderr and "Traceback" not in done.stderr
    assert installation.run("secrets", "rotate").returncode == 1
    assert not file.exists() and len(stored(installation)) <= 2
    file.write_text(key)
    file.chmod(0o600)
    answer = ask.create(model="vault")
    assert answer.status == 200 and "token-1" in answer.body.decode()


def test_forgetting_what_the_lost_key_opens(installation, serve):
    file = installation.data_dir / "secret.key"
    file.unlink()
    done = installation.run("secrets", "init")
    (line,) = done.stderr.splitlines()[-1:]
    assert done.returncode == 1 and "--forget" in line and not file.exists()
    assert installation.run("secrets", "init", "--forget").returncode != 0, "it asks first"
    assert not file.exists()
    done = installation.run("secrets", "init", "--forget", "--yes")
    assert done.returncode == 0 and "1 stored credentials are deleted" in done.stdout
    assert stored(installation) == [""] and len(rows(installation, "SELECT * FROM secret_checks")) == 1
    assert installation.run("upstreams", "remove", "one", "--yes").returncode == 0
    assert installation.run("add-vault", "again", typed="token-3").returncode == 0
    gateway = serve()
    assert "secret key" not in gateway.log
    answer = ApiClient(gateway.url, gateway.key).create(model="vault")
    assert answer.status == 200 and "token-3" in answer.body.decode()


def test_a_key_that_nothing_needs_is_made_anew(installation):
    assert installation.run("upstreams", "remove", "one", "--yes").returncode == 0
    file = installation.data_dir / "secret.key"
    file.unlink()
    done = installation.run("keys", "create", "me")
    assert (done.returncode, done.stderr) == (0, "") and file.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\n \n", b"\x00\x01\x02", b"\xff\xfe\xfd key", os.urandom(200), b"a\x00b", b"k" * 100_000],
    ids=range(7),
)
def test_a_file_that_is_no_key(installation, content):
    file = installation.data_dir / "secret.key"
    file.write_bytes(content)
    for command in (["serve", "--bind", "127.0.0.1:0"], ["upstreams", "list"], ["secrets", "rotate"]):
        done = installation.run(*command)
        (line,) = done.stderr.splitlines()
        assert done.returncode == 1 and str(file) in line
    assert file.read_bytes() == content


def test_a_plugin_that_is_not_there_may_need_the_key(install, folders, installation):
    """Its tables may hold what the key opens: nobody can say so."""
    other = install(plugin_folders=folders[1:], environ={"TEST_JOURNAL": os.devnull, **data_of(installation)})
    file = installation.data_dir / "secret.key"
    file.unlink()
    assert "--forget" in other.run("keys", "create", "me").stderr
    assert not file.exists()


def data_of(installation):
    return {"FLOWAY_DATA_DIR": str(installation.data_dir)}
