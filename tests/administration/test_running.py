"""What an operator can read of a running gateway: findings, settings, states, models, usage."""

import dataclasses
import os

import pytest

from floway_core.administration import doctor, keys, models, upstreams, usage
from floway_core.administration.settings import list_settings
from floway_core.errors import GatewayError
from floway_core.protocol.usage import Tokens
from floway_core.provider import Problem
from floway_core.runtime import plugins
from floway_core.runtime.gateway import open_gateway, read_settings
from floway_core.storage import connections
from floway_core.storage.db import close_connections, connect
from floway_core.testing import Installation, Reply, write_plugin

PARROT = '''"""A provider whose upstreams have a quota, a problem or a fault, by their names."""

from floway_core.errors import GatewayError
from floway_core.hookspecs import hookimpl
from floway_core.provider import Model, Problem, Provider, Quota
from floway_core.upstream.keyed import KeyedProvider


class Parrot(Provider):
    kind = "parrot"

    def list_models(self, upstream):
        return [Model("parrot-1", owned_by="me")]

    def fetch_models(self, upstream):
        if upstream.name == "mute":
            raise GatewayError(502, "It says nothing.", code="upstream_unreachable")
        return self.list_models(upstream)

    def find_problem(self, upstream):
        return Problem("It is tired.", "Let it sleep.") if upstream.name == "mute" else None

    def read_quotas(self, upstream):
        if upstream.name == "mute":
            raise KeyError("quota")
        return [Quota("5 hours", 0.25, 2_000_000_000)]

    def send(self, ctx):
        raise NotImplementedError


class Keyed(KeyedProvider):
    kind = "keyed"

    def send(self, ctx):
        raise NotImplementedError


@hookimpl
def register_providers(services):
    return [Parrot(), Keyed(services)]
'''


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parrot")
    write_plugin(folder, "parrot", PARROT)
    with Installation(plugin_folders=[folder]) as installation, pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        manager = plugins.build_plugin_manager(only=["parrot"])
        opened = open_gateway(read_settings(manager, {**installation.environ, "FLOWAY_ADMIN_TOKEN": "x" * 20}), manager)
        for name in ("polly", "mute"):
            upstreams.add(opened, "parrot", name, "", {})
        keys.create(opened.services.database, "one")
        yield opened
        close_connections(opened.services.database)


def test_the_findings_are_those_of_the_command(gateway):
    findings = {
        (found.check, found.status): found for found in doctor.check_running(gateway, {"FLOWAY_THREADS": "none"})
    }
    assert findings["settings", "fail"].message.startswith("FLOWAY_THREADS")
    assert "polly serves 1 models" in findings["upstreams", "ok"].message
    assert findings["upstreams", "fail"].message == "mute: It is tired. Let it sleep."
    assert {"database", "migrations", "secret key", "API keys"} <= {check for check, _ in findings}


def test_the_settings_are_shown_without_secrets(gateway):
    shown = {row.variable: row for row in list_settings(gateway.settings, gateway.manager, os.environ)}
    assert shown["FLOWAY_ADMIN_TOKEN"].value == "(hidden)" and shown["FLOWAY_THREADS"].value.isdigit()
    assert shown["FLOWAY_THREADS"].help


def test_the_state_of_an_upstream_has_reason_and_remedy(gateway):
    polly, mute = upstreams.list_states(gateway)
    assert (polly.upstream.name, polly.place, polly.problem, polly.connection) == ("polly", 1, None, None)
    assert mute.problem == Problem("It is tired.", "Let it sleep.")
    assert mute.details["problem"] == "It is tired. Let it sleep."
    assert upstreams.find_state(gateway, "mute") == mute
    with pytest.raises(GatewayError) as refused:
        upstreams.find_state(gateway, "nobody")
    assert refused.value.status == 404


def test_quotas_are_shown_and_a_plugin_that_fails_has_none(gateway):
    polly, mute = upstreams.list_states(gateway)
    (quota,) = upstreams.read_quotas(gateway, polly.upstream)
    assert (quota.name, quota.used, quota.resets_at) == ("5 hours", 0.25, 2_000_000_000)
    assert list(upstreams.read_quotas(gateway, mute.upstream)) == []


def test_a_test_that_fails_is_explained(gateway):
    assert [model.id for model in upstreams.test(gateway, "polly")] == ["parrot-1"]
    with pytest.raises(GatewayError) as refused:
        upstreams.test(gateway, "mute")
    explained = upstreams.explain(gateway, upstreams.find_state(gateway, "mute").upstream, refused.value)
    assert explained.reason == "It says nothing." and "floway upstreams test mute" in explained.remedy
    assert upstreams.find_state(gateway, "mute").last_try.failure == "It says nothing."


def test_the_models_have_their_upstreams_in_order(gateway):
    (model,) = models.list_models(gateway, wait_for_all=True).models
    assert (model.id, [server.upstream for server in model.served_by]) == ("parrot-1", ["polly", "mute"])


def test_the_usage_of_one_key_alone(gateway):
    for key, model in (("one", "a"), ("one", "b"), ("two", "a")):
        gateway.usage.add(key, model, "polly", Tokens(10, 0, 5, 0), 0.5, failed=False)
    database = gateway.services.database
    assert gateway.usage.flush(database)
    rows = usage.read(database, ["model"], only={"key": "one"})
    assert [(row.group["model"], row.requests) for row in rows] == [("a", 1), ("b", 1)]
    assert sum(row.requests for row in usage.read(database, ["model"])) == 3


def test_a_test_uses_what_another_worker_has_just_changed(gateway, fake_upstream):
    models = Reply([b'{"data": [{"id": "moved"}]}'], headers=[("content-type", "application/json")])
    fake_upstream.answer_always("/new/models", models)
    fake_upstream.answer_always("/old/models", Reply([b"{}"], 500))
    fields = {"base_url": f"{fake_upstream.url}/old", "api_key": "sk-1"}
    upstreams.add(gateway, "keyed", "moving", "", fields)
    with pytest.raises(GatewayError):
        upstreams.test(gateway, "moving")
    other = connect(gateway.settings.database_url)  # a cache of its own, as in another process
    services = dataclasses.replace(gateway.services, database=other)
    moving = upstreams.find_state(gateway, "moving").upstream
    connections.change(services, moving, base_url=f"{fake_upstream.url}/new")
    other.close_all()
    assert [model.id for model in upstreams.test(gateway, "moving")] == ["moved"]
    upstreams.remove(gateway.services.database, "moving")
