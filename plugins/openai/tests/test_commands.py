"""``floway upstreams add openai`` and its kin: what they take, what they refuse, and what they never show."""

import json

import pytest

from floway_core.testing import Installation

from .conftest import as_json

pytestmark = pytest.mark.soak  # long: many processes, or many examples

KEY = "sk-never-shown"
HTTPS = "https://api.example.com/v1"


@pytest.fixture
def installation():
    with Installation(installed=["openai"]) as made:
        yield made


@pytest.fixture(scope="module")
def empty():
    """An installation whose database does not even exist."""
    with Installation(installed=["openai"]) as made:
        yield made


def add(installation, *options, name="one", typed=KEY):
    return installation.run("upstreams", "add", "openai", name, "--no-test", *options, typed=typed)


def listed(installation):
    return json.loads(installation.run("upstreams", "list", "--json").stdout)


def shown(installation, name="one"):
    return json.loads(installation.run("upstreams", "show", name, "--json").stdout)


def test_a_key_from_a_file_with_everything(installation):
    file = installation.folder / "key"
    file.write_text(f"{KEY}\n")
    options = [
        "--key-file",
        str(file),
        "--header",
        "X-Team: blue-secret",
        "--model",
        "a",
        "--model",
        "b",
        "--prefix",
        "p",
    ]
    assert add(installation, "--base-url", f"{HTTPS}/", *options, "--compacts", typed="").returncode == 0
    assert shown(installation) == {
        "name": "one",
        "kind": "openai",
        "enabled": True,
        "prefix": "p",
        "problem": None,
        "base_url": HTTPS,
        "has_key": True,
        "headers": ["x-team"],
        "models": ["a", "b"],
        "options": {"compacts": True},
    }
    told = installation.run("upstreams", "show", "one").stdout + installation.run("upstreams", "list").stdout
    assert "one" in told and HTTPS in told and "models: a, b" in told and "options: compacts yes" in told
    stored = b"".join(part.read_bytes() for part in installation.data_dir.rglob("*"))
    assert HTTPS.encode() in stored
    for secret in (KEY, "blue-secret"):
        assert secret not in told and secret.encode() not in stored


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--base-url", "http://example.com/v1", "--no-key"], "http only on loopback"),
        (["--base-url", "http://10.0.0.7/v1", "--no-key"], "--allow-http allows http"),
        (["--base-url", "http://127.0.0.1.example.com/v1", "--no-key"], "http only on loopback"),
        (["--base-url", "ftp://example.com", "--no-key"], "https URL"),
        (["--base-url", "https://user:pass@example.com", "--no-key"], "https URL"),
        (["--base-url", "https://example.com/v1?key=x", "--no-key"], "https URL"),
        (["--no-key"], "--base-url"),
        (["--base-url", HTTPS], "The key is missing: use --key-file"),
        (["--base-url", HTTPS, "--key", KEY], "No such option"),
        (["--base-url", HTTPS, "--key-file", "-", "--no-key"], "only one of"),
        (["--base-url", HTTPS, "--key-file", "-", "--key-env", "HOME"], "only one of"),
        (["--base-url", HTTPS, "--key-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
        (["--base-url", "http://203.0.113.7/v1", "--no-key", "--allow-http"], "only in a private network"),
        (["--base-url", "http://api.example.com/v1", "--no-key", "--allow-http"], "only in a private network"),
        (["--base-url", HTTPS, "--key-file", "/nowhere/key"], "/nowhere/key"),
        (["--base-url", HTTPS, "--no-key", "--header", "Authorization: Bearer x"], "authorization holds the key"),
        (["--base-url", HTTPS, "--no-key", "--header", "api-key: x"], "api-key holds the key"),
        (["--base-url", HTTPS, "--no-key", "--header", "content-length: 1"], "content-length cannot be set"),
        (["--base-url", HTTPS, "--no-key", "--header", "host: x"], "host cannot be set"),
        (["--base-url", HTTPS, "--no-key", "--header", "no colon"], "'name: value' is expected"),
        (["--base-url", HTTPS, "--no-key", "--header", "x: a\nb: c"], "'name: value' is expected"),
        (["--base-url", HTTPS, "--no-key", "--header", "x: \u00fc"], "'name: value' is expected"),
        (["--base-url", HTTPS, "--no-key", "--prefix", "a b"], "A prefix has letters"),
    ],
)
def test_what_is_refused_leaves_nothing(empty, options, says):
    done = add(empty, *options)
    assert done.returncode != 0 and says in done.stderr and "Traceback" not in done.stderr
    assert KEY not in done.stderr or "--key" in options
    assert not empty.database.exists()


@pytest.mark.parametrize("typed", ["", " \n", "two\nlines", "w\u00fcrde", "a b"])
def test_what_is_no_key(empty, typed):
    done = add(empty, "--base-url", HTTPS, "--key-file", "-", typed=typed)
    assert done.returncode != 0 and "no API key" in done.stderr
    assert not empty.database.exists()


def test_names_are_unique(installation):
    assert add(installation, "--base-url", HTTPS, "--no-key").returncode == 0
    again = add(installation, "--base-url", "https://other.example.com", "--no-key")
    assert again.returncode == 1 and "already an upstream named 'one'" in again.stderr
    assert [row["base_url"] for row in listed(installation)] == [HTTPS]


@pytest.mark.parametrize("host", ["10.0.0.7:11434", "192.168.1.9", "ollama:11434", "models.internal", "[fd00::1]"])
def test_http_in_a_private_network_is_accepted_where_it_is_asked_for(installation, host):
    url = f"http://{host}/v1"
    assert add(installation, "--base-url", url, "--no-key", "--allow-http").returncode == 0
    assert shown(installation)["base_url"] == url


def test_a_key_from_the_environment(installation, upstream):
    options = ["upstreams", "add", "openai", "one", "--base-url", f"{upstream.url}/v1", "--key-env", "THE_KEY"]
    assert installation.run(*options, environ={"THE_KEY": KEY}).returncode == 0
    assert upstream.requests[0].header("authorization") == f"Bearer {KEY}"


def test_what_is_set_changes_and_the_rest_stays(installation, upstream):
    options = ["--key-file", "-", "--model", "a", "--header", "x-team: blue", "--compacts"]
    assert add(installation, "--base-url", HTTPS, *options).returncode == 0
    changed = installation.run("upstreams", "set", "one", "--base-url", f"{upstream.url}/v1", "--no-compacts")
    assert (changed.returncode, changed.stderr) == (0, "one: base url, options changed.\n")
    assert shown(installation) | {"base_url": f"{upstream.url}/v1", "options": {"compacts": False}} == shown(
        installation
    )
    assert (shown(installation)["models"], shown(installation)["headers"]) == (["a"], ["x-team"])
    assert installation.run("upstreams", "set", "one", "--key-file", "-", typed="sk-other").returncode == 0
    assert installation.run("upstreams", "test", "one").returncode == 0
    (sent,) = upstream.requests
    assert (sent.header("authorization"), sent.header("x-team")) == ("Bearer sk-other", "blue")
    assert installation.run("upstreams", "set", "one", "--no-key").returncode == 0
    assert shown(installation)["has_key"] is False


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["one"], "nothing to change"),
        (["two", "--no-key"], "'two'"),
        (["one", "--base-url", "http://example.com"], "http only on loopback"),
        (["one", "--colour", "red"], "No such option"),
        ([], "Missing argument"),
    ],
)
def test_what_cannot_be_set_changes_nothing(installation, options, says):
    assert add(installation, "--base-url", HTTPS, "--key-file", "-").returncode == 0
    before = shown(installation)
    done = installation.run("upstreams", "set", *options)
    assert done.returncode != 0 and says in done.stderr and "Traceback" not in done.stderr
    assert shown(installation) == before


def test_help_tells_the_options_and_creates_nothing(empty):
    told = empty.run("upstreams", "add", "openai", "--help").stdout
    for option in ("--base-url", "https://api.openai.com/v1", "--key-file", "--no-key", "--compacts / --no-compacts"):
        assert option in told
    assert "openai" in empty.run("upstreams", "add", "--help").stdout
    assert "Providers: openai" in empty.run("upstreams", "add", "nobody", "one").stderr
    assert not empty.data_dir.exists()


def tried(installation, url, *options):
    """What is said after an upstream has been added and tried."""
    where = ["--base-url", f"{url}/v1", "--key-file", "-"]
    done = installation.run("upstreams", "add", "openai", "one", *where, *options, typed=KEY)
    assert (done.returncode, done.stdout) == (0, "") and KEY not in done.stderr
    added, *lines = done.stderr.splitlines()
    assert added == "Added the upstream 'one'." and [row["name"] for row in listed(installation)] == ["one"]
    return lines


def state(installation):
    return installation.run("upstreams", "list").stdout.splitlines()[1]


def test_an_upstream_is_tried_when_it_is_added(installation, upstream):
    assert tried(installation, upstream.url) == ["It answers, and serves 2 models."]
    (sent,) = upstream.requests
    assert (sent.method, sent.path, sent.header("authorization")) == ("GET", "/v1/models", f"Bearer {KEY}")
    assert " answered 20" in state(installation)


@pytest.mark.parametrize("options", [(), ("--model", "a")])
def test_one_that_cannot_be_reached_is_added_with_a_warning(installation, unreachable, options):
    (line,) = tried(installation, unreachable, *options)
    assert line == (f"Warning: The upstream {unreachable} cannot be reached. Until it works: floway upstreams test one")
    assert f": The upstream {unreachable} cannot be reached." in state(installation)
    again = installation.run("upstreams", "test", "one")
    assert again.returncode == 1 and "cannot be reached" in again.stderr


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ((), 401, "answered 401"),
        ((), 404, "answered 404"),
        (("--model", "a"), 401, "answered 401"),
        (("--model", "a", "--model", "b"), 404, "It answers, and serves 2 models."),
        (("--model", "a", "--model", "b"), 403, "It answers, and serves 2 models."),  # of a key that may not list
    ],
)
def test_what_an_upstream_answers_when_it_is_added(installation, upstream, options, status, says):
    upstream.answer_always("/v1/models", as_json({"error": {"message": f"no {KEY}"}}, status))
    (line,) = tried(installation, upstream.url, *options)
    assert says in line and line.startswith("Warning: ") == (status in (401, 404) and "answered" in says)


def test_an_upstream_is_not_tried_if_the_operator_does_not_want_it(installation, upstream):
    assert tried(installation, upstream.url, "--no-test") == [] and upstream.requests == []
    assert state(installation).endswith("unknown until a request or a test")


def test_an_empty_list(installation):
    assert "`floway upstreams add openai --help`" in installation.run("upstreams", "list").stdout
    assert listed(installation) == [] and not installation.data_dir.exists()


def test_an_upstream_that_cannot_be_read_keeps_nobody_from_the_others(installation):
    """Stored with another secret key: the list says so, and the others are listed and changed as ever."""
    other_secret = {"FLOWAY_SECRET_KEY": "another"}

    def run(*arguments):
        return installation.run("upstreams", *arguments, typed="new", environ=other_secret)

    options = ("--base-url", HTTPS, "--key-file", "-")
    assert add(installation, *options).returncode == 0
    assert installation.run("upstreams", "disable", "one").returncode == 0
    assert run("add", "openai", "two", "--no-test", *options).returncode == 0
    broken, whole = json.loads(run("list", "--json").stdout)
    assert "cannot be decrypted" in broken["problem"] and "base_url" not in broken
    assert whole["problem"] is None and whole["base_url"] == HTTPS
    assert broken["problem"] in run("list").stdout and broken["problem"] in run("show", "one").stdout
    refused = run("set", "one", "--key-file", "-")
    assert refused.returncode == 1 and "cannot be decrypted" in refused.stderr
    assert run("set", "two", "--key-file", "-").returncode == 0
    assert [row["problem"] for row in json.loads(run("list", "--json").stdout)] == [broken["problem"], None]
    assert listed(installation)[0]["problem"] is None  # with the first secret key it is as it was
