"""The paths of the backend, and the catalogue in its native form, at a gateway with the simulated backend."""

import pytest
from floway_codex.simulator import Simulator

from . import gateways


@pytest.fixture(scope="module")
def gateway():
    with Simulator() as simulator, gateways.start(simulator) as started:
        gateways.import_account(started, simulator.new_account())
        yield started


@pytest.fixture
def caller(gateway):
    return gateways.caller(gateway)


PATHS = ["/backend-api/codex/models", "/v1/models", "/models"]


@pytest.mark.parametrize("path", PATHS)
def test_who_says_its_version_gets_the_native_catalogue(caller, path):
    native = caller.get(f"{path}?client_version=0.142.0").json()
    assert set(native) == {"models"} and gateways.MODEL in [entry["slug"] for entry in native["models"]]
    listed = caller.get(path).json()
    assert listed["object"] == "list" and gateways.MODEL in [model["id"] for model in listed["data"]]


def test_the_native_catalogue_has_the_names_of_clients(gateway, caller):
    (name,) = [line.split()[0] for line in gateway.run("upstreams", "list").stdout.splitlines()[1:]]
    original = {e["slug"]: e for e in caller.get("/v1/models?client_version=1").json()["models"]}[gateways.MODEL]
    assert gateway.run("aliases", "set", "fast", gateways.MODEL).returncode == 0
    assert gateway.run("upstreams", "prefix", name, "team").returncode == 0
    try:
        entries = caller.get("/v1/models?client_version=1").json()["models"]
        renamed = {entry["slug"]: entry for entry in entries}
        assert f"team/{gateways.MODEL}" in renamed and gateways.MODEL not in renamed
        entry = renamed[f"team/{gateways.MODEL}"]
        changed = {field for field in original if original[field] != entry[field]}
        assert changed == {field for field in original if original[field] == gateways.MODEL}
    finally:
        assert gateway.run("upstreams", "prefix", name).returncode == 0
        fast = {entry["slug"]: entry for entry in caller.get("/v1/models?client_version=1").json()["models"]}
        assert gateway.run("aliases", "remove", "fast").returncode == 0
    assert fast["fast"].keys() == original.keys()


@pytest.mark.parametrize("path", ["/backend-api/codex/responses", "/backend-api/codex/responses/"])
def test_responses_at_the_paths_of_the_backend(caller, path):
    answer = caller.post({"model": gateways.MODEL, "input": "Hi", "stream": True}, path)
    assert answer.status == 200 and answer.events()[-1]["type"] == "response.completed"
    assert caller.get(path).status == 426


def test_compaction_at_the_path_of_the_backend(caller):
    body = {"model": gateways.MODEL, "input": [{"type": "message", "role": "user", "content": "Hi"}]}
    answer = caller.post(body, "/backend-api/codex/responses/compact")
    assert answer.status == 200 and answer.json()["object"] == "response.compaction"
