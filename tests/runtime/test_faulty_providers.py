"""Providers whose methods fail: only their own upstreams are affected, and the log names upstream and method."""

import json

import pytest

from floway_core.testing import ApiClient, RunningGateway, write_plugin

FAULTY = """
import sys

from floway_core.hookspecs import hookimpl
from floway_core.provider import IterableBody, Model, Provider, UpstreamResponse
from floway_core.protocol.response_writer import ResponseEventWriter
from floway_core.upstream import GeneratedBody

EVENTS, JSON = [("content-type", "text/event-stream")], [("content-type", "application/json")]

class Good(Provider):
    kind = "good"
    def list_models(self, upstream): return [Model(f"{self.kind}-1", "me"), Model("shared", "me")]
    def send(self, ctx):
        writer = ResponseEventWriter("good-1")
        return UpstreamResponse(200, EVENTS, IterableBody([writer.text("Fine."), writer.complete(None)]))

class Faulty(Good):
    kind = "faulty"
    def METHOD: BODY

@hookimpl
def register_providers(services):
    return [Good(), Faulty()]
"""

LISTS = [
    ("list_models(self, upstream)", "return None"),
    ("list_models(self, upstream)", "return ['faulty-1']"),
    ("list_models(self, upstream)", "raise RuntimeError('no')"),
    ("list_models(self, upstream)", "sys.exit(1)"),
    ("cached_models(self, upstream)", "sys.exit(1)\n    def list_models(self, upstream): sys.exit(1)"),
]
ATTEMPTS = {
    "raises": ("send", "raise RuntimeError('no')"),
    "exits": ("send", "sys.exit(1)"),
    "returns nothing": ("send", "return None"),
    "returns bytes": ("send", "return UpstreamResponse(200, JSON, b'{}')"),
    "returns headers in a dict": ("send", "return UpstreamResponse(200, dict(JSON), IterableBody([b'{}']))"),
    "returns a status in words": ("send", "return UpstreamResponse('200', JSON, IterableBody([b'{}']))"),
    "generates a text": ("ResponseBody.read", "return UpstreamResponse(200, EVENTS, GeneratedBody(['data: {}']))"),
    "breaks in a body": ("ResponseBody.read", "return UpstreamResponse(200, JSON, GeneratedBody(1 / 0 for _ in 'a'))"),
    "breaks in an error": ("ResponseBody.read", "return UpstreamResponse(400, [], GeneratedBody(1 / 0 for _ in 'a'))"),
    "mends an error": (
        "handle_error_response",
        "return UpstreamResponse(400, [], IterableBody([b'no']))\n    def handle_error_response(self, *_): sys.exit(1)",
    ),
}


def faulty_source(method, body):
    return FAULTY.replace("METHOD", method).replace("BODY", body)


@pytest.fixture(scope="module")
def start_faulty(tmp_path_factory):
    """Starts gateways with a faulty and a good upstream, one after the other."""

    def start(method, body):
        folder = tmp_path_factory.mktemp("faulty")
        write_plugin(folder, "faulty", faulty_source(method, body))
        gateway = RunningGateway(plugin_folders=[folder])
        for kind in ("faulty", "good"):
            assert gateway.run("upstreams", "add", kind, f"my-{kind}").returncode == 0
        return gateway

    return start


@pytest.mark.parametrize(("method", "body"), LISTS)
def test_a_faulty_model_list_affects_only_its_upstream(start_faulty, method, body):
    with start_faulty(method, body) as gateway:
        client = ApiClient(gateway.url, gateway.key)
        assert client.create(model="faulty-1").status == 404
        assert client.create(model="good-1").status == client.create(model="shared").status == 200
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["good-1", "shared"]
        assert "Listing the models of upstream my-faulty failed" in gateway.log


@pytest.mark.parametrize("how", ATTEMPTS)
def test_an_attempt_that_fails_in_a_plugin_is_named_and_another_upstream_tried(start_faulty, how):
    method, body = ATTEMPTS[how]
    with start_faulty("send(self, ctx)", body) as gateway:
        client = ApiClient(gateway.url, gateway.key)
        failed = client.create(model="faulty-1")
        assert (failed.status, failed.json()["error"]["code"]) == (500, "internal_error")
        streamed = client.stream(model="faulty-1").body
        assert b"internal_error" in streamed and b"response.completed" not in streamed
        assert client.create(model="shared").json()["output"][0]["content"][0]["text"] == "Fine."
        assert f"he plugin of upstream my-faulty failed in {method}" in gateway.log


@pytest.mark.parametrize(
    ("method", "body"),
    [*LISTS[:3], ("base_url(self, upstream)", "raise RuntimeError")],
)
def test_a_provider_that_fails_does_not_stop_commands(install, tmp_path, method, body):
    write_plugin(tmp_path, "faulty", faulty_source(method, body))
    installation = install(plugin_folders=[tmp_path])
    for kind in ("faulty", "good"):
        assert installation.run("upstreams", "add", kind, f"my-{kind}").returncode == 0
    models = installation.run("models")
    assert models.returncode == 0 and "good-1" in models.stdout
    findings = json.loads(installation.run("doctor", "--json").stdout)
    (finding,) = (finding for finding in findings if "my-faulty" in finding["message"])
    assert finding["status"] == "fail" and "lugin" in finding["message"]
    tested = installation.run("upstreams", "test", "my-faulty")
    if method.startswith("list_models"):
        assert tested.returncode == 1
        assert tested.stderr.endswith("Error: The plugin of upstream 'my-faulty' failed to list its models.\n")
