"""A gateway in front of a scripted upstream, and whatever else of the kit the tests here need."""

import json

import pytest

from floway_core.storage import upstreams
from floway_core.storage.db import connect
from floway_core.testing import ApiClient, FakeUpstream, Reply, RunningGateway
from floway_core.testing.fixtures import unreachable  # noqa: F401 - a fixture

JSON = [("content-type", "application/json")]
KEY = "sk-the-operators"


def as_json(content, status=200, *headers):
    return Reply([json.dumps(content).encode()], status, [*JSON, *headers])


def model_list(*names):
    return as_json({"object": "list", "data": [{"id": name, "owned_by": "them", "created": 7} for name in names]})


def add(gateway, name, url, *options, key=KEY):
    gateway.add_upstream("openai", name, f"{url}/v1", *options, key=key)


def dispatches(upstream):
    return [request for request in upstream.requests if request.method == "POST"]


@pytest.fixture
def upstream():
    """An upstream that serves two models, to be scripted."""
    with FakeUpstream() as running:
        running.answer_always("/v1/models", model_list("model-1", "model-2"))
        yield running


@pytest.fixture(scope="module")
def running():
    """A gateway."""
    with RunningGateway(installed=["openai", "echo"]) as running:
        yield running


@pytest.fixture
def gateway(running):
    """The gateway, without upstreams."""
    database = connect(f"sqlite:///{running.database}")
    for row in upstreams.all_rows(database):
        upstreams.remove(database, row.name)
    database.close_all()
    return running


@pytest.fixture
def caller(gateway):
    return ApiClient(gateway.url, gateway.key)
