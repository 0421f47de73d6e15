"""Providers whose methods fail: commands go on, and say which plugin is at fault."""

import json

import pytest

from floway_core.testing import write_plugin

FAULTY = """
from floway_core.hookspecs import hookimpl
from floway_core.provider import Model, Provider

class Good(Provider):
    kind = "good"
    def list_models(self, upstream): return [Model("good-1", "me")]
    def send(self, ctx): raise NotImplementedError

class Faulty(Good):
    kind = "faulty"
    def METHOD(self, upstream): BODY

@hookimpl
def register_providers(services):
    return [Good(), Faulty()]
"""


@pytest.mark.parametrize(
    ("method", "body"),
    [("list_models", "return None"), ("list_models", "raise RuntimeError('no')"), ("base_url", "raise RuntimeError")],
)
def test_a_provider_that_fails_does_not_stop_commands(install, tmp_path, method, body):
    write_plugin(tmp_path, "faulty", FAULTY.replace("METHOD", method).replace("BODY", body))
    installation = install(plugin_folders=[tmp_path])
    for kind in ("faulty", "good"):
        assert installation.run("upstreams", "add", kind, f"my-{kind}").returncode == 0
    models = installation.run("models")
    assert models.returncode == 0 and "good-1" in models.stdout
    findings = json.loads(installation.run("doctor", "--json").stdout)
    (finding,) = (finding for finding in findings if "my-faulty" in finding["message"])
    assert finding["status"] == "fail" and "lugin" in finding["message"]
    tested = installation.run("upstreams", "test", "my-faulty")
    if method == "list_models":
        assert tested.returncode == 1
        assert tested.stderr.endswith("Error: The plugin of upstream 'my-faulty' failed to list its models.\n")
