"""The admin API: authentication, its operations, and that the command line sees the same state."""

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from floway_core.runtime import plugins
from floway_core.runtime.gateway import read_settings
from floway_core.storage import aliases, keys, upstreams
from floway_core.storage.db import connect
from floway_core.testing import ApiClient, Installation, Reply, RunningGateway, message_stream, write_plugin
from floway_core.web.app import create_app

TOKEN = "the-admin-token-of-the-tests"
KEYS, UPSTREAMS, ALIASES, MODELS = (f"/admin/api/{part}" for part in ("keys", "upstreams", "aliases", "models"))

PLUGIN = '''"""A provider whose upstreams are named by their URLs, and asked for their models each time."""

from floway_core.errors import GatewayError
from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext
from floway_core.provider import Model, Problem, Provider
from floway_core.upstream import HttpClient


class Remote(Provider):
    kind = "remote"

    def __init__(self, services):
        self.http = HttpClient(services.settings)

    def list_models(self, upstream):
        return [Model("remote-1", "them")]

    def fetch_models(self, upstream):
        self.http.fetch("GET", f"{upstream.name}/models", {})
        return [Model("remote-1", "them"), Model("remote-2", "them")]

    def find_problem(self, upstream):
        return Problem("It is signed out.") if upstream.prefix == "out" else None

    def send(self, ctx):
        return self.http.stream(ctx, "POST", ctx.attempt.upstream.name, {}, jsontext.dumps(ctx.body))


@hookimpl
def register_providers(services):
    return [Remote(services)]
'''


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote")
    write_plugin(folder, "remote", PLUGIN)
    with RunningGateway({"admin_token": TOKEN}, plugin_folders=[folder]) as running:
        yield running


@pytest.fixture
def house(gateway, fake_upstream):
    """A gateway with one upstream, and nothing else but its own key; ``admin`` is a client with the token."""
    database = connect(f"sqlite:///{gateway.database}")
    upstreams.add(database, "remote", fake_upstream.url)
    yield SimpleNamespace(admin=ApiClient(gateway.url, TOKEN), database=database, url=fake_upstream.url)
    for row in keys.all_rows(database):
        if row.name != "test":
            keys.delete(database, row.name)
    for row in upstreams.all_rows(database):
        upstreams.remove(database, row.name)
    for row in aliases.all_rows(database):
        aliases.remove(database, row.name)
    database.close_all()


@pytest.fixture
def call(house):
    """Sends a request with the token."""

    def send(method, path, body=None, *, status=200, headers=None):
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        exchange = house.admin.send(method, path, content, headers or {})
        assert exchange.status == status, exchange.body
        assert exchange.headers["x-request-id"] and exchange.headers["cache-control"] == "no-store"
        return exchange.json() if exchange.body else None

    return send


def error(answer):
    return answer["error"]["param"], answer["error"]["code"]


def all_routes(settings):
    """(method, path) of everything under /admin."""
    with Installation(settings) as installation:
        manager = plugins.build_plugin_manager(only=[])
        app = create_app(read_settings(manager, installation.environ), manager)
        return [
            (method, rule.rule.replace("<path:name>", "test"))
            for rule in app.url_map.iter_rules()
            for method in sorted(rule.methods)
            if rule.rule.startswith("/admin")
        ]


# ----------------------------------------------------------------------------------------------------------- getting in
def test_without_a_token_in_the_settings_there_is_nothing(start_gateway):
    assert all_routes({}) == []
    running = start_gateway()
    for caller in (ApiClient(running.url, TOKEN), ApiClient(running.url, running.key), ApiClient(running.url, "")):
        answer = caller.get(KEYS)
        assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")
        assert answer.body == caller.get("/admin/apj/keys").body.replace(b"apj", b"api")


def test_every_route_wants_the_token(gateway, house):
    routes = all_routes({"admin_token": TOKEN})
    assert len(routes) > 15
    for method, path in routes:
        for given in (
            None,
            f"Bearer {gateway.key}",
            "Bearer",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            f"Basic {TOKEN}",
        ):
            answer = house.admin.send(method, path, b"{}", {"authorization": given, "x-api-key": TOKEN})
            assert answer.status == 401, (method, path, given)
            assert answer.headers["www-authenticate"] == "Bearer"
            if method != "HEAD":
                assert error(answer.json()) == (None, "invalid_admin_token") and TOKEN.encode() not in answer.body
    assert [row.name for row in keys.all_rows(house.database)] == ["test"]
    assert keys.all_rows(house.database)[0].revoked_at is None


def test_the_token_opens_nothing_else(gateway, house):
    for path in ("/v1/models", "/v1/responses/resp_0"):
        answer = house.admin.get(path)
        assert (answer.status, error(answer.json())) == (401, (None, "invalid_api_key"))
    assert house.admin.create().status == 401


@pytest.mark.parametrize("token", ["short", "with spaces in it ..", "ümläut-ümläut-ümläut"])
def test_a_poor_token_is_refused_at_the_start(install, token):
    done = install({"admin_token": token}).run("config")
    assert done.returncode == 1 and "FLOWAY_ADMIN_TOKEN" in done.stderr and token not in done.stderr


def test_the_token_is_not_shown(install):
    installation = install({"admin_token": TOKEN})
    assert TOKEN not in installation.run("config").stdout + installation.run("config", "--json").stdout


# ----------------------------------------------------------------------------------------------------------------- keys
def test_the_life_of_a_key(gateway, house, call, fake_upstream):
    made = call("POST", KEYS, {"name": "ann/laptop", "models": ["remote-1"], "tokens_per_day": 1000}, status=201)
    key = made.pop("key")
    assert key.startswith("sk-floway-") and made["hint"] == f"...{key[-4:]}" and made["models"] == ["remote-1"]
    path = f"{KEYS}/ann/laptop"
    assert call("GET", path) == made == call("GET", KEYS)["data"][1]
    assert made == json.loads(gateway.run("keys", "list", "--json").stdout)[1]
    changed = call("PATCH", path, {"models": None, "upstreams": [house.url], "requests_per_minute": 9})
    assert changed == {**made, "models": None, "upstreams": [house.url], "requests_per_minute": 9}
    assert call("PATCH", path, {}) == changed
    fake_upstream.script(Reply(message_stream()))
    client = ApiClient(gateway.url, key)
    assert client.create(model="remote-1").status == 200
    assert call("POST", f"{path}/revoke")["revoked_at"] and client.get("/v1/models").status == 401
    assert call("DELETE", path, status=204) is None
    assert [row["name"] for row in call("GET", KEYS)["data"]] == ["test"]
    assert key not in gateway.log


def test_what_is_wrong_with_a_key(call):
    call("POST", KEYS, {"name": "one"}, status=201)
    for body, param in (
        ({}, "name"),
        ({"name": None}, "name"),
        ({"name": 7}, "name"),
        ({"name": ""}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": "two", "models": "gpt"}, "models"),
        ({"name": "two", "upstreams": ["nowhere"]}, "upstreams"),
        ({"name": "two", "tokens_per_day": 1.5}, "tokens_per_day"),
        ({"name": "two", "expires_at": 1}, "expires_at"),
        ({"name": "two", "key": "sk-floway-mine"}, "key"),
    ):
        assert error(call("POST", KEYS, body, status=400))[0] == param
    assert error(call("POST", KEYS, {"name": "one"}, status=409))[0] == "name"
    assert error(call("PATCH", f"{KEYS}/one", {"name": "two"}, status=400))[0] == "name"
    assert error(call("PATCH", f"{KEYS}/one", {"models": [""]}, status=400))[0] == "models"
    assert len(call("GET", KEYS)["data"]) == 2


# ------------------------------------------------------------------------------------------------------------ upstreams
def test_upstreams_are_listed_and_changed(gateway, house, call):
    upstreams.add(house.database, "remote", "other")
    upstreams.add(house.database, "uninstalled", "third")
    one, other, third = call("GET", UPSTREAMS)["data"]
    row = upstreams.find(house.database, house.url)
    shown = {
        "id": row.id,
        "name": house.url,
        "kind": "remote",
        "enabled": True,
        "place": 1,
        "prefix": "",
        "problem": None,
        "tried_at": None,
        "failure": None,
    }
    assert one == shown and "not installed" in third["problem"]
    assert call("GET", f"{UPSTREAMS}/other") == other
    changed = call("PATCH", f"{UPSTREAMS}/other", {"place": 1, "prefix": "out", "enabled": False})
    assert changed == {**other, "place": 1, "prefix": "out", "enabled": False, "problem": "It is signed out."}
    assert [row["name"] for row in call("GET", UPSTREAMS)["data"]] == ["other", house.url, "third"]
    assert call("PATCH", f"{UPSTREAMS}/other", {"enabled": True, "prefix": "", "place": None}) == {**other, "place": 1}
    assert call("PATCH", f"{UPSTREAMS}/other", {"name": "another"}) == {**other, "name": "another", "place": 1}
    assert error(call("PATCH", f"{UPSTREAMS}/another", {"name": "third"}, status=409))[0] == "name"
    assert call("PATCH", f"{UPSTREAMS}/another", {"name": "other", "place": 1})["name"] == "other"
    assert call("DELETE", f"{UPSTREAMS}/other", status=204) is None
    listed = json.loads(gateway.run("upstreams", "list", "--json").stdout)
    assert [row["name"] for row in listed] == [house.url, "third"]


def test_an_upstream_is_asked_now(house, call, fake_upstream, unreachable):
    fake_upstream.answer_always("/models", Reply([b"[]"]))
    path = f"{UPSTREAMS}/{house.url.replace('//', '%2F%2F')}/test"
    assert call("POST", path) == {"name": house.url, "models": ["remote-1", "remote-2"]}
    assert [request.path for request in fake_upstream.requests] == ["/models"]
    upstreams.add(house.database, "remote", unreachable)
    path = f"{UPSTREAMS}/{unreachable.replace('//', '%2F%2F')}/test"
    assert error(call("POST", path, status=502)) == (None, "upstream_unreachable")
    one, other = call("GET", UPSTREAMS)["data"]
    assert one["tried_at"] and one["failure"] is None
    assert other["tried_at"] and "cannot be reached" in other["failure"]
    upstreams.add(house.database, "uninstalled", "third")
    assert "not installed" in call("POST", f"{UPSTREAMS}/third/test", status=409)["error"]["message"]


def test_what_is_wrong_with_a_change(house, call):
    upstreams.add(house.database, "remote", "other")
    for body, param in (
        ({"place": 0}, "place"),
        ({"place": "1"}, "place"),
        ({"place": True}, "place"),
        ({"enabled": 1}, "enabled"),
        ({"prefix": "a b"}, "prefix"),
        ({"enabled": False, "prefix": "/"}, "prefix"),
        ({"name": ""}, "name"),
        ({"name": 7}, "name"),
        ({"api_key": "secret"}, "api_key"),
    ):
        assert error(call("PATCH", f"{UPSTREAMS}/other", body, status=400))[0] == param
    assert upstreams.find(house.database, "other").enabled, "all of a change or nothing"


# -------------------------------------------------------------------------------------------------------------- aliases
def test_the_life_of_an_alias(gateway, house, call, fake_upstream):
    targets = [{"model": "remote-1", "upstream": house.url}, {"model": "x"}]
    made = call("PUT", f"{ALIASES}/team/fast", {"targets": targets, "effort": "low"})
    assert made == {
        "name": "team/fast",
        "targets": [targets[0], {"model": "x", "upstream": None}],
        "effort": "low",
        "verbosity": None,
        "service_tier": None,
    }
    assert call("GET", f"{ALIASES}/team/fast") == made and call("GET", ALIASES) == {"data": [made]}
    assert json.loads(gateway.run("aliases", "list", "--json").stdout) == [made]
    fake_upstream.script(Reply(message_stream()))
    assert ApiClient(gateway.url, gateway.key).create(model="team/fast").status == 200
    assert json.loads(fake_upstream.requests[0].body)["reasoning"] == {"effort": "low"}
    made = call("PUT", f"{ALIASES}/team/fast", {"targets": [{"model": "remote-1"}], "verbosity": "high"})
    assert (made["effort"], made["verbosity"]) == (None, "high"), "it is replaced as a whole"
    shown = {"id": "team/fast", "owned_by": "them", "served_by": [{"upstream": house.url, "model": "remote-1"}]}
    assert shown in call("GET", MODELS)["data"]
    assert call("DELETE", f"{ALIASES}/team/fast", status=204) is None
    assert call("GET", ALIASES) == {"data": []}


def test_what_is_wrong_with_an_alias(call):
    one = [{"model": "remote-1"}]
    for body, param in (
        ({}, "targets"),
        ({"targets": None}, "targets"),
        ({"targets": []}, "targets"),
        ({"targets": "remote-1"}, "targets"),
        ({"targets": ["remote-1"]}, "targets[0]"),
        ({"targets": [*one, {}]}, "targets[1].model"),
        ({"targets": [*one, {"model": 5}]}, "targets[1].model"),
        ({"targets": [{"model": "a", "upstream": []}]}, "targets[0].upstream"),
        ({"targets": [{"model": "a", "name": "b"}]}, "targets[0].name"),
        ({"targets": [{"model": ""}]}, "targets"),
        ({"targets": [{"model": "\udc00"}]}, "targets"),
        ({"targets": [{"model": "a", "upstream": "nowhere"}]}, "targets"),
        ({"targets": one, "effort": {}}, "effort"),
        ({"targets": one, "effort": "a\nb"}, "effort"),
        ({"targets": one, "verbosity": ""}, "verbosity"),
        ({"targets": one, "service_tier": "x" * 41}, "service_tier"),
        ({"targets": one, "name": "other"}, "name"),
    ):
        assert error(call("PUT", f"{ALIASES}/a", body, status=400))[0] == param
    assert error(call("PUT", f"{ALIASES}/{'a' * 101}", {"targets": one}, status=400))[0] == "name"
    assert call("GET", ALIASES) == {"data": []}


# ---------------------------------------------------------------------------------------------------------- all of them
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *((method, f"{part}/nobody") for part in (KEYS, UPSTREAMS, ALIASES) for method in ("GET", "DELETE")),
        ("PATCH", f"{KEYS}/nobody"),
        ("PATCH", f"{UPSTREAMS}/nobody"),
        ("POST", f"{KEYS}/nobody/revoke"),
        ("POST", f"{UPSTREAMS}/nobody/test"),
        ("GET", f"{KEYS}/%00"),
        ("DELETE", f"{ALIASES}/a%07b"),
    ],
)
def test_what_is_not_there(call, method, path):
    assert error(call(method, path, {}, status=404))[0] == "name"


def test_bodies_that_are_none(call):
    for body in (b"", b"[]", b"{", b'{"targets": NaN}'):
        assert error(call("PUT", f"{ALIASES}/a", body, status=400))[1] == "invalid_json"
    assert error(call("PUT", f"{ALIASES}/a", b" " * 70_000, status=413))[1] == "request_too_large"
    coded = {"content-encoding": "br"}
    assert error(call("PUT", f"{ALIASES}/a", b"{}", status=415, headers=coded))[1] == "unsupported_content_encoding"


def test_a_request_is_logged_as_all_are(gateway, house):
    answer = house.admin.get(f"{ALIASES}/unheard-of")
    assert answer.status == 404
    (line,) = gateway.wait_for_log(answer.headers["x-request-id"])
    assert f"GET {ALIASES}/unheard-of 404" in line and TOKEN not in gateway.log


# ------------------------------------------------------------------------------------------------------------ the page
PAGE = (Path(__file__).parents[2] / "docs" / "admin.md").read_text()


def test_the_page_names_every_route():
    told = re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/admin/api/[\w/{}]+)`", PAGE)
    routes = {
        (method, path) for method, path in all_routes({"admin_token": TOKEN}) if method not in ("HEAD", "OPTIONS")
    }
    assert {(method, path.replace("{name}", "test")) for method, path in told} == routes


def test_the_examples_on_the_page_are_true():
    """Run in their order; what is made by chance may differ."""
    with RunningGateway({"admin_token": TOKEN}, installed=["echo"]) as gateway:
        assert gateway.run("echo", "add", "mirror").returncode == 0
        admin = ApiClient(gateway.url, TOKEN)
        examples = re.findall(r"^\$ admin \$api(.*)\n(.*)$", PAGE, re.MULTILINE)
        assert len(examples) == 8
        for command, answer in examples:
            path, *options = shlex.split(command)
            given = dict(zip(options[::2], options[1::2], strict=True))
            method = given.get("-X", "POST" if "-d" in given else "GET")
            exchange = admin.send(method, f"/admin/api{path}", given.get("-d", "").encode())
            assert _settled(exchange.body.decode()) == _settled(answer)


def _settled(answer):
    chance = r'"(id|hint|key)":"(key_|up_|group_|sk-|\.\.\.)[^"]*"|"created_at":\d+'
    return json.loads(re.sub(chance, lambda found: f'"{found[1] or "at"}":0', answer))
