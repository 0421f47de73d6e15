"""What the operator sees of the plugin: how to add an upstream, and what it does."""

import pytest

from floway_core.testing import Installation, RunningGateway

from .upstreams import add, model_list

pytestmark = pytest.mark.soak  # long: many processes, or waits


def test_a_gateway_without_an_upstream_says_how_to_add_one():
    with RunningGateway(installed=["chat"]) as gateway:
        assert "missing: an upstream. See `floway upstreams add chat --help`" in gateway.log
        assert "--server" in gateway.run("upstreams", "add", "chat", "--help").stdout


def test_an_upstream_in_a_private_network(server):
    with Installation(installed=["chat"]) as installation:
        where = ["upstreams", "add", "chat", "far", "--base-url", "http://10.9.8.7:8000/v1", "--no-key", "--no-test"]
        refused = installation.run(*where)
        assert refused.returncode != 0 and "--allow-http" in refused.stderr
        assert installation.run(*where, "--allow-http").returncode == 0
        assert "far" in installation.run("upstreams", "list").stdout


def test_the_models_of_an_upstream_are_listed_and_tested(server):
    server.answer_always("/v1/models", model_list("m-1", "m-2"))
    with Installation(installed=["chat"]) as installation:
        add(installation, "one", server.url, key="")
        assert "m-1" in installation.run("models").stdout
        tested = installation.run("upstreams", "test", "one")
        assert tested.returncode == 0, tested.stderr


def test_the_plugin_tells_what_it_adds():
    with Installation(installed=["chat"]) as installation:
        told = installation.run("plugins").stdout
        assert "POST /v1/chat/completions" in told and "chat_restore_reasoning" in told


def test_a_wrong_setting_is_refused():
    with Installation({"chat_restore_reasoning": "maybe"}, installed=["chat"]) as installation:
        refused = installation.run("config")
        assert refused.returncode != 0 and "on or off" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    with Installation({"chat_restore_reasoning": "off"}, installed=["chat"]) as installation:
        shown = installation.run("config")
        assert shown.returncode == 0 and "FLOWAY_CHAT_RESTORE_REASONING" in shown.stdout
