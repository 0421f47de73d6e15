"""A gateway with three upstreams, and clients of it that know where those are."""

import json
from types import SimpleNamespace

import pytest

from floway_core.storage import aliases, upstreams
from floway_core.storage.db import connect
from floway_core.testing import ApiClient, FakeUpstream, Reply, RunningGateway, message_stream, write_plugin

PLUGIN = '''"""Providers for tests; each request says in a header where the upstreams are."""

import json

from floway_core.errors import GatewayError
from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext
from floway_core.provider import Model, Provider
from floway_core.upstream import HttpClient


class Near(Provider):
    kind = "near"

    def __init__(self, services):
        self.http = HttpClient(services.settings)

    def list_models(self, upstream):
        if upstream.name == "moody":
            raise GatewayError(502, "It gives no list.")
        if upstream.name == "clumsy":
            raise KeyError("data")
        shared = Model("shared", self.kind, details={"slug": "shared", "of": self.kind})
        return [shared, Model(f"{upstream.name}/shared", self.kind, upstream_name="shared")]

    def find_problem(self, upstream):
        if upstream.name == "clumsy":
            raise KeyError("data")

    def send(self, ctx):
        url = json.loads(ctx.attempt.request.headers["x-test-urls"])[ctx.attempt.upstream.name]
        return self.http.stream(ctx, "POST", f"{url}/{ctx.attempt.model}", {}, jsontext.dumps(ctx.body))


class Far(Near):
    kind = "far"


class Remote(Near):
    """Its upstreams are named by their URLs, and asked for their models."""

    kind = "remote"

    def __init__(self, services):
        super().__init__(services)
        self.known, self.failed = {}, {}

    def list_models(self, upstream):
        answer = self.http.fetch("GET", f"{upstream.name}/models", {})
        if answer.status_code != 200:
            self.failed[upstream.id] = GatewayError(502, "It gives no list.")
            raise self.failed[upstream.id]
        self.failed.pop(upstream.id, None)
        self.known[upstream.id] = [Model(name, self.kind) for name in answer.json()]
        return self.known[upstream.id]

    def cached_models(self, upstream):
        if upstream.id in self.failed:
            raise self.failed[upstream.id]
        return self.known.get(upstream.id)

    def send(self, ctx):
        return self.http.stream(ctx, "POST", ctx.attempt.upstream.name, {}, jsontext.dumps(ctx.body))


@hookimpl
def register_providers(services):
    return [Near(services), Far(services), Remote(services)]


@hookimpl
def register_commands(cli):
    @cli.group("far")
    def group():
        """A command of its own."""
'''

NAMES = ["first", "second", "third"]
KINDS = {"first": "near", "second": "near", "third": "far"}
ANSWER = Reply(message_stream())


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("routed")
    write_plugin(folder, "routed", PLUGIN)
    with RunningGateway(plugin_folders=[folder]) as running:
        yield running


@pytest.fixture
def house(gateway):
    """Three upstreams in their order, two of them of one kind, and a client that knows where they are."""
    database = connect(f"sqlite:///{gateway.database}")
    places = {name: FakeUpstream() for name in NAMES}
    for name in NAMES:
        upstreams.add(database, KINDS[name], name)
    caller = ApiClient(gateway.url, gateway.key)
    yield SimpleNamespace(places=places, caller=caller, database=database)
    for row in upstreams.all_rows(database):
        upstreams.remove(database, row.name)
    for row in aliases.all_rows(database):
        aliases.remove(database, row.name)
    for place in places.values():
        place.close()
    database.close_all()


@pytest.fixture
def ask(house):
    """Sends a request; each upstream answers as told, else well. The answer knows who was ``tried``."""

    def send(model="shared", replies=None, urls=None, caller=None, **fields):
        for name, place in house.places.items():
            place.forget()
            place.script((replies or {}).get(name, ANSWER))
        where = {name: place.url for name, place in house.places.items()} | (urls or {})
        caller = caller or house.caller
        caller.headers["x-test-urls"] = json.dumps(where)
        exchange = caller.create(model=model, **fields)
        exchange.tried = [name for name, place in house.places.items() if exchange.body and place.requests]
        return exchange

    return send


def floway(gateway, *arguments):
    done = gateway.run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def served(gateway):
    return json.loads(floway(gateway, "models", "--json"))


def listed(caller):
    """The models that a client is shown."""
    return [model["id"] for model in caller.get("/v1/models").json()["data"]]


def sent(house, name):
    """The body of the only request that an upstream got."""
    (request,) = house.places[name].requests
    return json.loads(request.body)


def refusal(status):
    return Reply([b'{"error":{"message":"No."}}'], status, [("content-type", "application/json")])
