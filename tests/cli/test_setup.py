"""``floway setup``: what it prints and writes, which key it uses, and how files are changed."""

import json
import os
import stat

import pytest
import tomlkit

from floway_core.client_setup import install, set_dotenv_values, set_json_values, set_toml_values
from floway_core.client_setup.install import Change
from floway_core.testing import FakeUpstream, Reply, RunningGateway, message_stream, write_plugin

from ..support.stored_upstreams import add_upstreams

PLUGIN = '''"""Sets up a client that has a file of each kind."""

from pathlib import Path

from floway_core.client_setup import (
    CheckRequest, ClientSetup, SetupFile, set_dotenv_values, set_json_values, set_toml_values
)
from floway_core.hookspecs import hookimpl


class Tool(ClientSetup):
    name, title, start = "tool", "The Tool", "tool --go"

    def files(self, target, environ):
        home = Path(environ["TOOL_HOME"])
        key = target.key or "$FLOWAY_API_KEY"
        return [
            SetupFile(home / "tool.toml", lambda text: set_toml_values(text, {("server", "url"): target.url})),
            SetupFile(home / "deep/tool.json", lambda text: set_json_values(text, {("auth", "key"): key})),
            SetupFile(home / ".env", lambda text: set_dotenv_values(text, {"TOOL_MODEL": target.model})),
        ]

    def variables(self, target):
        return {"TOOL_MODE": "fast"}

    def check(self, target):
        headers = {"authorization": f"Bearer {target.key}"}
        return CheckRequest("/v1/responses", {"model": target.model, "input": "Hi"}, headers)


class Library(ClientSetup):
    name, title = "library", "A library"

    def variables(self, target):
        return {"LIBRARY_KEY": target.key or "$FLOWAY_API_KEY"}

    def check(self, target):
        return CheckRequest("/v1/nothing", {"model": target.model}, {"authorization": f"Bearer {target.key}"})


@hookimpl
def register_client_setups():
    return [Tool(), Library()]
'''


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, plugin_folder, journal_file):
    folder = tmp_path_factory.mktemp("tool")
    write_plugin(folder, "tool", PLUGIN)
    environ = {"TEST_JOURNAL": str(journal_file)}
    with FakeUpstream() as upstream:
        upstream.answer_always("/answers", Reply(message_stream()))
        settings = {"wire_url": upstream.url}
        with RunningGateway(settings, plugin_folders=[plugin_folder, folder], environ=environ) as running:
            add_upstreams(running, first="wire")
            yield running


@pytest.fixture
def setup(gateway, tmp_path):
    """Runs ``floway setup`` with a home folder of this test."""

    def run(*arguments, typed="", **environ):
        environ = {"TOOL_HOME": str(tmp_path), "FLOWAY_BIND": gateway.url.removeprefix("http://"), **environ}
        return gateway.run("setup", *arguments, typed=typed, environ=environ)

    return run


def test_what_is_printed_refers_to_the_environment(setup, tmp_path, gateway):
    assert setup().stdout.split("\n")[:2] == ["library     A library", "tool        The Tool"]
    printed = setup("tool").stdout
    assert f'url = "{gateway.url}"' in printed and '"key": "$FLOWAY_API_KEY"' in printed
    assert '# First: export FLOWAY_API_KEY="sk-floway-..."' in printed and 'export TOOL_MODE="fast"' in printed
    assert "TOOL_MODEL=model-1" in printed and list(tmp_path.iterdir()) == []
    printed = setup("library", "--key", "of the library", "--model", "m").stdout
    assert 'export FLOWAY_API_KEY="sk-floway-' in printed and 'export LIBRARY_KEY="$FLOWAY_API_KEY"' in printed
    # It exists now, and a shell that evaluates what is printed keeps it.
    printed = setup("library", "--key", "of the library", "--model", "m").stdout
    assert printed == '# First: export FLOWAY_API_KEY="sk-floway-..."\nexport LIBRARY_KEY="$FLOWAY_API_KEY"\n'
    printed = setup("library", "--key", "of the library", "--model", "m", FLOWAY_API_KEY="sk-floway-x").stdout
    assert printed == 'export LIBRARY_KEY="$FLOWAY_API_KEY"\n'


def test_writing_twice(setup, tmp_path):
    (tmp_path / "tool.toml").write_text('# mine\n[server]\nurl = "old" # here\nother = 1\n')
    refused = setup("tool", "--key", "twice", "--write")
    assert refused.returncode != 0 and "--yes" in refused.stderr and not (tmp_path / ".env").exists()
    done = setup("tool", "--key", "twice", "--write", "--yes")
    assert done.returncode == 0, done.stderr
    assert '-url = "old" # here' in done.stdout and '+    "key": "sk-floway-..."' in done.stdout
    toml = (tmp_path / "tool.toml").read_text()
    assert toml.startswith("# mine\n") and "other = 1" in toml and tomlkit.parse(toml)["server"]["url"] != "old"
    key = json.loads((secret := tmp_path / "deep/tool.json").read_text())["auth"]["key"]
    assert key.startswith("sk-floway-") and key not in done.stdout + done.stderr
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    (backup,) = tmp_path.glob("tool.toml.*.bak")
    assert 'url = "old"' in backup.read_text() and f"mv {backup} {tmp_path}/tool.toml" in done.stdout
    before = {file: file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    again = setup("tool", "--key", "twice", "--write")
    assert again.returncode == 0 and "set up already" in again.stdout, again.stderr
    assert before == {file: file.read_text() for file in tmp_path.rglob("*") if file.is_file()}


def test_the_text_of_a_key_that_exists(setup, gateway, tmp_path):
    key = gateway.run("keys", "create", "old one").stdout.strip()
    missing = setup("tool", "--key", "old one", "--write", "--yes", FLOWAY_API_KEY=gateway.key)
    assert missing.returncode == 1 and "set FLOWAY_API_KEY to it, or use standard input" in missing.stderr
    for typed in ("sk-floway-wrong\n", gateway.key + "\n"):
        refused = setup("tool", "--key", "old one", "--write", "--yes", typed=typed)
        assert refused.returncode == 1 and "That is not the API key 'old one'" in refused.stderr
    assert list(tmp_path.iterdir()) == []
    assert setup("tool", "--key", "old one", "--write", "--yes", typed=key + "\n").returncode == 0
    assert key in (tmp_path / "deep/tool.json").read_text()
    (tmp_path / "deep/tool.json").unlink()
    assert setup("tool", "--key", "old one", "--write", "--yes", FLOWAY_API_KEY=key).returncode == 0


def test_a_file_that_is_not_understood_stops_all(setup, tmp_path):
    (tmp_path / ".env").write_text("KEPT=1\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/tool.json").write_text('{"auth": ["no object"]}')
    done = setup("tool", "--key", "stopped", "--write", "--yes")
    assert done.returncode == 1 and "auth is not a JSON object" in done.stderr
    assert (tmp_path / ".env").read_text() == "KEPT=1\n" and not (tmp_path / "tool.toml").exists()
    (tmp_path / ".env").write_bytes(b"\xff")
    done = setup("tool", "--key", "stopped", "--write", "--yes")
    assert done.returncode == 1 and ".env: it cannot be read" in done.stderr
    assert setup("library", "--write").returncode == 2 and setup("nothing").returncode == 2


def test_the_check(setup, gateway, unreachable):
    environ = {"FLOWAY_API_KEY": gateway.key}
    done = setup("tool", "--check", "--url", gateway.url, **environ)
    assert done.returncode == 0, done.stdout
    assert [line.rpartition(":")[0] for line in done.stdout.splitlines()] == [
        f"ok      GET {gateway.url}/v1/models",
        f"ok      POST {gateway.url}/v1/responses",
    ]
    for arguments, says in (
        (["tool", "--check", "--model", "nope"], "nope is not among the"),
        (["tool", "--check", "--url", unreachable], "is `floway serve` running there?"),
        (["library", "--check"], "404"),
    ):
        done = setup(*arguments, **environ)
        assert done.returncode == 1 and says in done.stdout, done.stdout + done.stderr
    assert "No API key" in setup("tool", "--check").stderr
    wrong = setup("tool", "--check", FLOWAY_API_KEY="sk-floway-wrong").stdout
    assert "401 The API key is unknown or revoked." in wrong


# ------------------------------------------------------------------------------------------------------------- editing
JSON_EDITS = [
    ("", '{\n  "a": {\n    "b": 1\n  }\n}\n'),
    ("{}", '{\n  "a": {\n    "b": 1\n  }\n}'),
    ('{"x": 2}', '{"x": 2,\n  "a": {\n    "b": 1\n  }\n}'),
    ('{\n  "x": 2 // two\n}\n', '{\n  "x": 2, // two\n  "a": {\n    "b": 1\n  }\n}\n'),
    ('{\n  "x": [1, {"a": 3}], // , }\n}\n', '{\n  "x": [1, {"a": 3}], // , }\n  "a": {\n    "b": 1\n  }\n}\n'),
    ('{"a": {"b": /* old */ [0, 5]}}', '{"a": {"b": /* old */ 1}}'),
    ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
    ('// head\n{"a": {}, "z": "}\\"{"}', '// head\n{"a": {\n    "b": 1\n  }, "z": "}\\"{"}'),
]


@pytest.mark.parametrize(("before", "after"), JSON_EDITS)
def test_json_keeps_all_else(before, after):
    assert set_json_values(before, {("a", "b"): 1}) == after
    assert set_json_values(after, {("a", "b"): 1}) == after


@pytest.mark.parametrize("text", ["[1]", '{"a": 1}', "{", '{"a" 1}', '{"a": }', "{} x", '{"a": {"b": 1]}', "nonsense"])
def test_json_that_is_not_understood(text):
    with pytest.raises(ValueError, match=r"line|object"):
        set_json_values(text, {("a", "b"): 1})


def test_toml_keeps_all_else():
    before = "# top\nx = 1 # one\n\n[a.other]\ny = 2\n\n[[list]]\nz = 3\n"
    after = set_toml_values(before, {("a", "mine", "u"): "v", ("x",): 2, ("a", "other", "y"): None, ("n", "o"): None})
    assert "# top\nx = 2 # one\n" in after and "[[list]]\nz = 3" in after
    assert tomlkit.parse(after).unwrap() == {"x": 2, "a": {"other": {}, "mine": {"u": "v"}}, "list": [{"z": 3}]}
    assert set_toml_values(after, {("a", "mine", "u"): "v"}) == after
    assert set_toml_values("[t]\na = 1\n", {("x",): 2}).index("x = 2") == 0  # at the end it would belong to the table
    for wrong, values in (("x = ", {("x",): 1}), ("x = 1", {("x", "y"): 1})):
        with pytest.raises(ValueError, match=r"line 1|not a table"):
            set_toml_values(wrong, values)


TOML_FORMS = [
    "",
    "# c\n[t]\na = 1\n",
    "[servers]\n[servers.a]\nx = 1\n[z]\n",
    "[servers.a]\nx = 1\n[z]\ny = 1\n[servers.b]\n",
    "servers = { a = {x = 1} }\n",
    "p = 1\r\n[q.m]\r\nm = 3\r\n",
    "[[m_list]]\nx = 1\n[[m_list]]\n",
]


@pytest.mark.parametrize("before", TOML_FORMS)
def test_every_form_of_toml(before):
    values = {("m",): 2, ("servers", "mine", "u"): "v"}
    after = set_toml_values(before, values)
    expected = tomlkit.parse(before).unwrap()
    expected.setdefault("servers", {})["mine"] = {"u": "v"}
    assert tomlkit.parse(after).unwrap() == {**expected, "m": 2}
    assert set_toml_values(after, values) == after


def test_toml_that_would_be_spoiled_is_left_alone():
    with pytest.raises(ValueError, match="dotted"):
        set_toml_values("servers.a.x = 1\n", {("m",): 2, ("servers", "mine", "u"): "v"})


def test_dotenv_keeps_all_else():
    before = "# mine\nA=1\nexport B = old\nB=older\n"
    assert set_dotenv_values(before, {"B": "new", "C": "3"}) == "# mine\nA=1\nexport B = old\nB=new\nC=3\n"
    assert set_dotenv_values("", {"A": "1"}) == "A=1\n"


def test_a_link_stays_a_link_and_a_mode_stays(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    backup = install.write(Change(link, "old", "new"), is_secret=False)
    assert link.is_symlink() and real.read_text() == "new" and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert backup.read_text() == "old" and backup.parent == tmp_path
    second = install.write(Change(link, "new", "newer"), is_secret=True)
    assert second != backup and stat.S_IMODE(real.stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == sorted(["link", "real", backup.name, second.name])
