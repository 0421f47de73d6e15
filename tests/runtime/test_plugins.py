"""Faulty plugins keep Floway from starting, and one line names the plugin."""

import json
import subprocess
import sys

import pytest

from floway_core import __version__
from floway_core.testing import ApiClient, write_plugin

PROVIDER = """
from floway_core.hookspecs import hookimpl
from floway_core.provider import Provider

class Mine(Provider):
    kind = "mine"
    def list_models(self, upstream): return []
    def send(self, ctx): raise NotImplementedError

@hookimpl
def register_providers(services):
    return [Mine()]
"""
HOOKIMPL = "from floway_core.hookspecs import hookimpl\n\n@hookimpl\n"

DIALECT = """
from floway_core.dialect import Claims, Dialect, Operation, ReadRequest, Route
from floway_core.hookspecs import hookimpl

class Mine(Dialect):
    name = "mine"
    def routes(self): return [Route("/mine", Operation.RESPOND)]
    def read(self, request): return ReadRequest(request.body)
    def response(self, call, response): return response
    def models(self, request, models): return {}

@hookimpl
def register_dialects(services):
    return [Mine()]
"""
SERVING = """
from flask import Blueprint
from floway_core.hookspecs import hookimpl

views = Blueprint("views_of_NAME", __name__)

@views.route("/PATH", methods=["METHOD"])
def view():
    return ""

@hookimpl
def register_routes(services):
    return [views]
"""


def serving(method, path, name="broken"):
    return SERVING.replace("NAME", name).replace("PATH", path).replace("METHOD", method)


def answering(*routes, **attributes):
    """A dialect with other routes, if there are any, and further attributes."""
    routes = routes or ("Route('/mine', Operation.RESPOND)",)
    source = DIALECT.replace('[Route("/mine", Operation.RESPOND)]', f"[{', '.join(routes)}]")
    return source.replace(
        "    def routes", "".join(f"    {name} = {value}\n" for name, value in attributes.items()) + "    def routes"
    )


AT_ONCE = {
    "forgotten marker": ("def register_providers(services): return []", "register_providers"),
    "misspelt hook": (HOOKIMPL + "def register_provider(services): pass", "register_provider"),
    "wrong argument": (HOOKIMPL + "def register_providers(service): pass", "service"),
    "import error": ("import there_is_no_such_module", "there_is_no_such_module"),
    "syntax error": ("def", "SyntaxError"),
    "exit": ("raise SystemExit(0)", "SystemExit"),
    "error of several lines": ("raise ValueError('one\\ntwo')", "one two"),
}
AT_THE_COMMANDS = {
    "command of core": (HOOKIMPL + "def register_commands(cli): cli.command('keys')(lambda: None)", "'keys'"),
    "command in a group of core": (
        HOOKIMPL + "def register_commands(cli): cli.commands['keys'].command('list')(lambda: None)",
        "'keys list'",
    ),
    "no commands": (HOOKIMPL + "def register_commands(cli): cli.nothing()", "register_commands"),
}
SETTING = """def register_settings():
    from floway_core.settings import Setting, text
    return [Setting({!r}, text, None, "Mine.")]
"""
AT_THE_SETTINGS = {
    "setting of core": (HOOKIMPL + SETTING.format("bind"), "'bind'"),
    "settings": (HOOKIMPL + "def register_settings(): raise RuntimeError('my fault')", "my fault"),
    "no settings": (HOOKIMPL + "def register_settings(): return 7", "register_settings"),
    "no setting": (HOOKIMPL + "def register_settings(): return ['mine_url']", "register_settings"),
    "settings not returned": (HOOKIMPL + "def register_settings(): pass", "register_settings"),
}
MIGRATIONS = """def register_migrations():
    from pathlib import Path
    from floway_core.storage.migrate import MigrationSource
    return MigrationSource("floway", Path(__file__).parent)
"""
AT_THE_SERVICES = {
    "raising": (HOOKIMPL + "def register_providers(services): raise RuntimeError('my\\nfault')", "my fault"),
    "no provider": (HOOKIMPL + "def register_providers(services): return [object()]", "object"),
    "no list": (HOOKIMPL + "def register_providers(services): return 7", "register_providers"),
    "provider not returned": (HOOKIMPL + "def register_providers(services): pass", "register_providers"),
    "migrations": (HOOKIMPL + "def register_migrations(): raise RuntimeError('my fault')", "my fault"),
    "exit in a hook": (HOOKIMPL + "def register_providers(services): raise SystemExit(0)", "SystemExit"),
    "migrations of core": (HOOKIMPL + MIGRATIONS, "'floway'"),
    "no migrations": (HOOKIMPL + "def register_migrations(): return 'folder'", "register_migrations"),
}
AT_THE_SERVICES |= {
    "dialects": (HOOKIMPL + "def register_dialects(services): return [7]", "register_dialects"),
    "nameless dialect": (answering(name="''"), "no lower-case name"),
    "dialect of core": (answering(name="'responses'"), "'responses'"),
    "half a dialect": (answering("Route('/mine', Operation.COUNT_TOKENS)"), "lacks the method 'token_count'"),
    "no route": (answering("'/mine'"), "not a Route"),
    "no model": (answering("Route('/mine/<id>', Operation.GET_MODEL)", model="lambda *_: {}"), "<path:model>"),
    "path of core": (answering("Route('/v1/responses', Operation.RESPOND)"), "POST /v1/responses"),
    "unclaimed path": (answering("Route('/v1/models/', Operation.LIST_MODELS)"), "claims do not tell them apart"),
    "odd header": (answering(key_headers="('X-Key',)"), "'X-Key'"),
}
AT_THE_ROUTES = {
    "route of core": (serving("POST", "v1/responses"), "POST /v1/responses"),
    "view of core": (serving("GET", "healthz"), "GET /healthz"),
    "route with a variable": (serving("GET", "v1/responses/<any>"), "GET /v1/responses/<any>"),
    "name of core": (serving("GET", "mine").replace("views_of_broken", "health"), "health"),
    "routes": (HOOKIMPL + "def register_routes(): raise RuntimeError('my fault')", "my fault"),
    "no routes": (HOOKIMPL + "def register_routes(): return 7", "register_routes"),
}
COMMANDS = [
    *[(command, source) for source in AT_ONCE for command in ("config", "serve", "wsgi")],
    *[(command, source) for source in AT_THE_COMMANDS for command in ("config", "serve")],
    *[(command, source) for source in AT_THE_SETTINGS for command in ("config", "serve", "wsgi")],
    *[(command, source) for source in AT_THE_SERVICES for command in ("serve", "wsgi")],
    *[(command, source) for source in AT_THE_ROUTES for command in ("serve", "wsgi")],
]
KINDS = (AT_ONCE, AT_THE_COMMANDS, AT_THE_SETTINGS, AT_THE_SERVICES, AT_THE_ROUTES)
SOURCES = {name: source for kind in KINDS for name, source in kind.items()}


def start(installation, command):
    """Run ``command`` to its end."""
    if command == "config":
        return installation.run("config")
    if command == "serve":
        return installation.run("serve", "--bind", "127.0.0.1:0")
    return subprocess.run(
        [sys.executable, "-c", "import floway_core.wsgi"],
        env={**installation.environ, "FLOWAY_LOG_LEVEL": "warning"},
        cwd=installation.folder,
        capture_output=True,
        text=True,
    )


# `floway serve` for each source, the other ways to start for one source of each kind: all others are alike.
IN_SHORT = {
    *(("serve", source) for source in SOURCES),
    *((command, next(iter(kind))) for kind in KINDS for command in ("config", "wsgi")),
}


@pytest.mark.parametrize(
    ("command", "source"),
    [pytest.param(*one, marks=() if one in IN_SHORT else pytest.mark.soak) for one in COMMANDS],
)
def test_a_broken_plugin_is_named_in_one_line(install_broken, command, source):
    done = start(install_broken(broken=SOURCES[source][0]), command)
    assert done.returncode != 0 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ") and "'broken'" in line and SOURCES[source][1] in line


@pytest.mark.parametrize("name", ["floway-core", "Floway_Core"])
def test_a_plugin_for_another_version_of_core_is_named(install, tmp_path, name):
    write_plugin(tmp_path, "ahead", "raise RuntimeError('not even imported')")
    metadata = tmp_path / "ahead_plugin-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + f"Requires-Dist: click\nRequires-Dist: {name} (<100,>=99)\n")
    done = start(install(plugin_folders=[tmp_path]), "config")
    assert done.returncode != 0 and done.stdout == ""
    expected = f"Plugin 'ahead' (ahead-plugin 1.0) needs floway-core <100,>=99, but this is floway-core {__version__}."
    assert done.stderr == f"Error: {expected}\n"


def test_a_requirement_that_does_not_apply_here_is_ignored(install, tmp_path):
    write_plugin(tmp_path, "mine", PROVIDER)
    metadata = tmp_path / "mine_plugin-1.0.dist-info" / "METADATA"
    old, extra = 'floway-core<0.1; python_version < "3"', 'floway-core>99; extra == "future"'
    metadata.write_text(metadata.read_text() + f"Requires-Dist: {old}\nRequires-Dist: {extra}\n")
    assert start(install(plugin_folders=[tmp_path]), "config").returncode == 0


def test_two_packages_with_plugins_of_one_name_are_named(install, tmp_path):
    for name in ("one", "two"):
        write_plugin(tmp_path, name, PROVIDER)
        points = tmp_path / f"{name}_plugin-1.0.dist-info" / "entry_points.txt"
        points.write_text(points.read_text().replace(f"{name} =", "mine ="))
    done = start(install(plugin_folders=[tmp_path]), "config")
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ") and "'mine' (one-plugin 1.0) and 'mine' (two-plugin 1.0)" in line


@pytest.mark.parametrize("command", ["serve", "wsgi"])
def test_two_plugins_that_claim_one_kind_are_both_named(install_broken, command):
    done = start(install_broken(one=PROVIDER, two=PROVIDER), command)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert "'one'" in line and "'two'" in line and "'mine'" in line


KINDLESS = "class Mine(Provider):\n    def list_models(self, upstream): pass\n    def send(self, ctx): pass"


@pytest.mark.parametrize("provider", ["class Mine(Provider): pass", "class Mine(Provider): kind = 'mine'", KINDLESS])
def test_a_provider_that_is_not_finished_is_named(install_broken, provider):
    source = f"from floway_core.provider import Provider\n{provider}\n"
    done = start(
        install_broken(broken=source + HOOKIMPL + "def register_providers(services): return [Mine()]"), "serve"
    )
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert "'broken'" in line and "Mine" in line


BOTH = {
    "routes": [serving("GET", "mine", "one"), serving("GET", "mine/", "two")],
    "route and dialect": [serving("POST", "mine", "one"), DIALECT],
    "dialects": [DIALECT, DIALECT],
    "paths": [answering(name="'first'"), answering(name="'second'")],
    "prefixes": [
        answering("Route('/a', Operation.RESPOND)", name="'first'", prefixes="('/x',)"),
        answering("Route('/b', Operation.RESPOND)", name="'second'", prefixes="('/x/',)"),
    ],
    "claims": [
        answering("Route('/v1/models', Operation.LIST_MODELS)", name=f"'{name}'", claims="Claims(('x-mine',))")
        for name in ("first", "second")
    ],
    "settings": [HOOKIMPL + SETTING.format("mine")] * 2,
    "commands": [HOOKIMPL + "def register_commands(cli): cli.command('mine')(lambda: None)"] * 2,
}


@pytest.mark.parametrize("what", BOTH)
def test_two_plugins_that_collide_are_both_named(install_broken, what):
    one, two = BOTH[what]
    done = start(install_broken(one=one, two=two), "serve")
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert "one" in line and "two" in line and line.startswith("Error: ")


def test_dialects_with_different_claims_share_a_path(start_gateway, tmp_path):
    for name in ("one", "two"):
        claims = f"Claims(('x-{name}',), ('{name}',))"
        models = f"lambda self, request, models: {{'of': '{name}'}}"
        source = answering("Route('/v1/models', Operation.LIST_MODELS)", name=f"'{name}'", claims=claims)
        write_plugin(
            tmp_path, name, source.replace("def models(self, request, models): return {}", f"models = {models}")
        )
    gateway = start_gateway(plugin_folders=[tmp_path])
    caller = ApiClient(gateway.url, gateway.key)
    assert [caller.get("/v1/models", **{f"x_{name}": ""}).json() for name in ("one", "two")] == [
        {"of": "one"},
        {"of": "two"},
    ]
    assert caller.get("/v1/models?two").json() == {"of": "two"}
    both = caller.get("/v1/models?two", x_one="1")
    assert both.status == 400 and both.json()["error"]["code"] == "ambiguous_api"


def test_an_entry_point_in_another_group_is_named(install, tmp_path):
    write_plugin(tmp_path, "lost", PROVIDER)
    points = tmp_path / "lost_plugin-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text().replace("[floway]", "[floway.plugins]"))
    done = start(install(plugin_folders=[tmp_path]), "config")
    assert done.returncode == 0
    assert done.stderr == (
        "lost-plugin is not loaded as a plugin: its entry point 'lost' is in the group 'floway.plugins' instead of "
        "'floway'.\n"
    )


def test_an_entry_point_without_hooks_is_named(install, tmp_path):
    write_plugin(tmp_path, "idle", "def answer(): pass")
    done = start(install(plugin_folders=[tmp_path]), "config")
    assert done.returncode == 0
    assert (
        done.stderr
        == "Plugin 'idle' does nothing: its entry point names the module 'idle_plugin', which has no hook.\n"
    )


def test_events_that_are_no_json_are_told_at_level_debug(start_gateway, tmp_path):
    body = """[b"event: response.output_text.delta\\ndata: {'type': 'qwerty'}\\n\\n"]"""
    sent = f"UpstreamResponse(200, [('content-type', 'text/event-stream')], IterableBody({body}))"
    source = PROVIDER.replace("return []\n", "return [Model('mine-1', 'me')]\n")
    source = source.replace("raise NotImplementedError", f"return {sent}")
    write_plugin(
        tmp_path, "mine", source.replace("import Provider", "import IterableBody, Model, Provider, UpstreamResponse")
    )
    gateway = start_gateway({"log_level": "debug"}, plugin_folders=[tmp_path])
    assert gateway.run("upstreams", "add", "mine", "one").returncode == 0
    assert ApiClient(gateway.url, gateway.key).create(model="mine-1").status == 502
    assert (
        "An event 'response.output_text.delta' with 18 bytes of data is not a JSON object; relayed unchanged."
        in gateway.log
    )
    assert "qwerty" not in gateway.log


def test_under_gunicorn_the_worker_is_not_started_again_and_again(install, tmp_path):
    write_plugin(tmp_path, "broken", SOURCES["misspelt hook"][0])
    installation = install(plugin_folders=[tmp_path])
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "floway_core.wsgi:app", "--bind", "127.0.0.1:0"],
        env=installation.environ,
        cwd=installation.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert done.stderr.count("Error: Plugin 'broken'") == 1
    assert "Traceback" not in done.stderr


def test_core_alone_starts_and_says_what_is_missing(start_gateway):
    gateway = start_gateway()
    assert "missing: a provider" in gateway.log and "pip install floway-" in gateway.log
    caller = ApiClient(gateway.url, gateway.key)
    assert caller.get("/v1/models").json() == {"object": "list", "data": []}
    refused = caller.create()
    assert refused.status == 404 and refused.body
    assert caller.get("/readyz").json() == {
        "status": "degraded",
        "providers": [],
        "upstreams": 0,
        "problems": [],
    }
    assert gateway.stop() == 0


def test_a_provider_without_an_upstream_says_how_to_get_one(start_gateway, tmp_path):
    write_plugin(tmp_path, "mine", PROVIDER)
    gateway = start_gateway(plugin_folders=[tmp_path])
    assert "missing: an upstream. See `floway mine --help`" in gateway.log
    assert "missing: a provider" not in gateway.log


def test_an_upstream_whose_provider_is_gone_is_left_out(install, plugin_folder, start_gateway):
    gateway = start_gateway()
    with_plugins = install(plugin_folders=[plugin_folder], environ={"FLOWAY_DATA_DIR": str(gateway.data_dir)})
    assert with_plugins.run("add-wire", "orphan").returncode == 0
    assert ApiClient(gateway.url, gateway.key).get("/v1/models").json()["data"] == []
    assert "orphan" in gateway.run("upstreams", "list").stdout


def test_an_installed_plugin_is_found(start_gateway):
    gateway = start_gateway(installed=["echo"])
    assert gateway.run("echo", "add").returncode == 0
    text = ApiClient(gateway.url, gateway.key).create(model="echo").json()["output"][0]["content"][0]["text"]
    assert text == "You said: Hi"


def test_plugins_are_listed_with_what_they_bring(install):
    listed = json.loads(install(installed=["echo"]).run("plugins", "--json").stdout)
    assert [plugin["name"] for plugin in listed] == ["echo"]
    assert (listed[0]["providers"], listed[0]["commands"], listed[0]["migrations"]) == (["echo"], ["echo"], None)
    assert (listed[0]["dialects"], listed[0]["routes"], listed[0]["settings"]) == ([], [], [])
    assert listed[0]["hooks"] == ["register_commands", "register_providers"]
