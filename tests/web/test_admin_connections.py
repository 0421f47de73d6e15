"""Upstreams with a URL and a key, for a made-up provider: added, changed and described by the admin API."""

import json

import pytest

from floway_core.testing import ApiClient, Reply, RunningGateway, message_stream, write_plugin

TOKEN, KEY = "the-admin-token-of-the-tests", "sk-of-the-upstream"
UPSTREAMS = "/admin/api/upstreams"

PLUGIN = '''"""A provider that is reached with a URL and a key, which stands in a header of its own."""

from floway_core.hookspecs import hookimpl
from floway_core.provider import ConnectionOptions, UpstreamOption
from floway_core.upstream.keyed import KeyedProvider, encode_body


class Remote(KeyedProvider):
    kind = "remote"
    connection_options = ConnectionOptions(
        default_base_url="https://api.example.com/v1",
        options=(
            UpstreamOption("speed", "How fast.", ("fast", "slow")),
            UpstreamOption("loud", "Whether it is loud."),
        ),
    )
    private_headers = frozenset({"x-owner"})

    def key_headers(self, api_key):
        return {"x-remote-key": api_key}

    def send(self, ctx):
        speed = self.connection(ctx.attempt.upstream).options["speed"]
        return self.post(ctx, "/" + speed, encode_body(ctx.body))


class Account(Remote):
    kind = "account"
    connection_options = None
    signs_in = True


@hookimpl
def register_providers(services):
    return [Remote(services), Account(services)]
'''


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote")
    write_plugin(folder, "remote", PLUGIN)
    with RunningGateway({"admin_token": TOKEN}, plugin_folders=[folder], installed=["echo"]) as running:
        yield running


@pytest.fixture
def admin(gateway):
    """Calls the admin API, and removes all upstreams in the end."""
    client = ApiClient(gateway.url, TOKEN)

    def call(method, path="", body=None, status=200):
        answer = client.send(method, UPSTREAMS + path, body and json.dumps(body).encode())
        assert answer.status == status, answer.body
        return answer.json() if answer.body else None

    yield call
    for row in call("GET")["data"]:
        call("DELETE", f"/{row['name']}", status=204)


def test_an_upstream_is_added_and_serves(gateway, admin, fake_upstream):
    fake_upstream.answer_always("/v1/models", Reply([b'{"data":[{"id":"remote-1"}]}']))
    fake_upstream.answer_always("/v1/slow", Reply(message_stream(), headers=[("x-owner", "me"), ("x-other", "you")]))
    sent = {
        "kind": "remote",
        "name": "one",
        "prefix": "p",
        "base_url": f"{fake_upstream.url}/v1/",
        "api_key": KEY,
        "headers": {"X-Team": "blue-secret"},
        "options": {"speed": "slow"},
    }
    made = admin("POST", body=sent, status=201)
    assert made["base_url"] == f"{fake_upstream.url}/v1" and made["has_key"] and made["prefix"] == "p"
    assert made["options"] == {"speed": "slow", "loud": False}, "the others have their defaults"
    assert (made["headers"], made["models"], made["problem"]) == (["x-team"], [], None)
    shown = json.dumps([made, admin("GET"), admin("GET", "/one")])
    assert KEY not in shown and "blue-secret" not in shown
    answer = ApiClient(gateway.url, gateway.key).create("Hi", model="p/remote-1", store=False)
    assert answer.status == 200 and answer.headers["x-other"] == "you" and "x-owner" not in answer.headers
    request = fake_upstream.requests[-1]
    assert (request.path, request.header("x-remote-key")) == ("/v1/slow", KEY)
    assert request.header("x-team") == "blue-secret" and request.header("authorization") is None


def test_an_upstream_that_needs_a_sign_in_is_not_added_without(admin):
    error = admin("POST", body={"kind": "account", "name": "one"}, status=400)["error"]
    assert error["param"] == "kind" and "signing in" in error["message"]
    assert admin("GET")["data"] == []


def test_changes_leave_the_rest(admin):
    made = admin("POST", body={"kind": "remote", "name": "one", "api_key": KEY, "models": ["a"]}, status=201)
    assert made["base_url"] == "https://api.example.com/v1"
    changed = admin("PATCH", "/one", {"options": {"loud": True}, "prefix": "q", "name": "two"})
    assert changed == {**made, "name": "two", "prefix": "q", "options": {"speed": "fast", "loud": True}}
    changed = admin("PATCH", "/two", {"models": [], "base_url": "http://10.0.0.7/v1", "allow_http": True})
    assert (changed["models"], changed["base_url"], changed["has_key"]) == ([], "http://10.0.0.7/v1", True)


def test_a_provider_without_options_needs_no_more_than_a_name(admin):
    assert admin("POST", body={"kind": "echo", "name": "mirror"}, status=201)["kind"] == "echo"
    admin("PATCH", "/mirror", {"api_key": KEY}, status=400)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"kind": "nobody"}, "kind"),
        ({"kind": None}, "kind"),
        ({"name": None}, "name"),
        ({"name": "one"}, "name"),
        ({"api_key": ""}, "api_key"),
        ({"api_key": "two\nlines"}, "api_key"),
        ({"base_url": "http://example.com"}, "base_url"),
        ({"base_url": "http://203.0.113.7", "allow_http": True}, "base_url"),
        ({"headers": {"authorization": "x"}}, "headers"),
        ({"headers": {"x": "a\nb"}}, "headers"),
        ({"headers": {"x": 7}, "models": [7]}, "models"),
        ({"models": "a"}, "models"),
        ({"options": {"colour": "red"}}, "options.colour"),
        ({"options": {"speed": "warp"}}, "options.speed"),
        ({"options": {"loud": 1}}, "options.loud"),
        ({"more": 1}, "more"),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(admin, wrong, param):
    admin("POST", body={"kind": "remote", "name": "one", "api_key": KEY}, status=201)
    before = admin("GET")
    body = {"kind": "remote", "name": "two", "api_key": KEY, **wrong}
    told = admin("POST", body=body, status=409 if wrong == {"name": "one"} else 400)
    assert told["error"]["param"] == param and KEY not in json.dumps(told)
    if not wrong.keys() & {"kind", "name"}:
        assert admin("PATCH", "/one", {**wrong, "prefix": "p"}, status=400)["error"]["param"] == param
    assert admin("GET") == before
