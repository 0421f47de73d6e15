"""Each message on a WebSocket is a request: it has the key's limits and permissions, a log line and metrics."""

import json
import uuid
from types import SimpleNamespace

import pytest

from floway_core.runtime.gateway import read_settings
from floway_core.runtime.plugins import build_plugin_manager
from floway_core.storage import keys
from floway_core.storage.db import connect as connect_database
from floway_core.testing import ApiClient, Reply, Step, message_stream
from floway_core.testing.events import USAGE
from floway_core.web.app import create_app

from ..support.stored_upstreams import add_upstreams
from ..support.websocket_client import UPGRADE

FIRST, *OTHERS = message_stream()


@pytest.fixture
def new_key(gateway):
    """Makes a key with options. ``key``: what clients send, ``url``: the gateway's."""
    database = connect_database(f"sqlite:///{gateway.database}")

    def make(**options):
        name = uuid.uuid4().hex
        key = keys.create(database, name, options)
        return SimpleNamespace(url=gateway.url, key=key, name=name, database=database)

    yield make
    database.close_all()


def always(fake_upstream):
    fake_upstream.answer_always("/answers", Reply(message_stream()))


def test_each_message_counts_against_the_requests_per_minute(websocket, new_key, fake_upstream):
    always(fake_upstream)
    client = websocket(new_key(requests_per_minute=2))
    client.turn()
    client.turn()
    client.create()
    error = client.receive()
    assert (error["status"], error["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(error["headers"]["retry-after"]) > 0
    assert error["headers"]["x-ratelimit-limit-requests"] == "2"


def test_a_warm_up_counts_as_a_request(websocket, new_key, fake_upstream):
    client = websocket(new_key(requests_per_minute=1))
    client.turn(generate=False)
    client.refused(429, "rate_limit_exceeded", generate=False)


def test_idle_connections_do_not_count_as_running_requests(websocket, new_key, fake_upstream):
    fake_upstream.script(Reply([FIRST, Step.HOLD, *OTHERS]), *[Reply(message_stream())] * 2)
    key = new_key(concurrent_requests=1)
    one, other = websocket(key), websocket(key)
    one.create()
    one.receive()
    other.refused(429, "rate_limit_exceeded")
    fake_upstream.release.set()
    one.receive_until("response.completed")
    one.turn()
    other.turn()


def test_the_tokens_count(websocket, new_key, fake_upstream):
    always(fake_upstream)
    client = websocket(new_key(tokens_per_day=USAGE["total_tokens"]))
    client.turn()
    client.refused(429, "rate_limit_exceeded")


def test_a_key_may_only_use_its_models(websocket, new_key, fake_upstream):
    always(fake_upstream)
    client = websocket(new_key(models=["model-2"]))
    client.refused(404, "model_not_found")
    client.refused(404, "model_not_found", generate=False)
    client.turn(model="model-2")


@pytest.mark.parametrize("end", [keys.revoke, keys.delete])
def test_a_key_that_is_revoked_is_refused_from_the_next_message_on(websocket, new_key, fake_upstream, end):
    always(fake_upstream)
    key = new_key()
    client = websocket(key)
    client.turn()
    end(key.database, key.name)
    client.refused(401, "invalid_api_key")


def test_where_else_a_key_may_stand(websocket, new_key, fake_upstream):
    always(fake_upstream)
    key = new_key()
    nobody = SimpleNamespace(url=key.url, key="")
    websocket(nobody, {"authorization": "", "x-api-key": key.key}).turn()


def test_a_response_is_counted_in_the_log_and_the_metrics(websocket, watched, fake_upstream):
    always(fake_upstream)
    place = {"route": "/v1/responses", "model": "model-1", "upstream": "first"}
    start = len(watched.log)
    client = websocket(watched)
    response = client.turn()
    client.refused(404, "model_not_found", model="nowhere")
    lines = map(json.loads, watched.wait_for_log("nowhere", start) and watched.log[start:].splitlines())
    logged = [line for line in lines if line.get("route") == "/v1/responses"]
    assert [(line["method"], line["status"], line["transport"]) for line in logged] == [
        ("GET", 101, "http"),
        ("POST", 200, "websocket"),
        ("POST", 404, "websocket"),
    ]
    assert f"resp_{logged[1]['request_id'].replace('-', '')}" == response["id"]
    assert (logged[1]["outcome"], logged[1]["output_tokens"]) == ("completed", USAGE["output_tokens"])
    assert logged[1]["first_byte_ms"] is not None and logged[0]["key"] == logged[1]["key"] == "test"
    metrics = ApiClient(watched.url, watched.key).get("/metrics").body.decode()
    counted = [line for line in metrics.splitlines() if line.startswith("floway_requests_total{")]
    assert [line for line in counted if all(f'{name}="{value}"' for name, value in place.items())]
    assert any('status="200"' in line for line in counted) and any('status="404"' in line for line in counted)


def test_too_many_requests_are_refused_and_the_connection_goes_on(
    websocket, start_gateway, plugin_folder, fake_upstream
):
    gateway = start_gateway({"threads": "1"}, plugin_folders=[plugin_folder], environ={"TEST_JOURNAL": "/dev/null"})
    add_upstreams(gateway, first="wire")
    fake_upstream.script(Reply([FIRST, Step.HOLD, *OTHERS]), *[Reply(message_stream())] * 3)
    busy, other = websocket(gateway), websocket(gateway)  # which take no place themselves
    busy.create()
    busy.receive()
    error = other.refused(503, "server_overloaded")
    assert "Try again" in error["message"]
    fake_upstream.release.set()
    busy.receive_until("response.completed")
    for _ in range(3):  # each begins when the one before has ended
        busy.turn()


def test_the_operator_decides_how_many_websockets_there_are(websocket, start_gateway, plugin_folder, fake_upstream):
    settings = {"max_websockets": "1"}
    gateway = start_gateway(settings, plugin_folders=[plugin_folder], environ={"TEST_JOURNAL": "/dev/null"})
    client = websocket(gateway)
    assert client.connection.ping().wait(20)  # it counts when it is served
    ask = ApiClient(gateway.url, gateway.key)
    assert ask.send("GET", "/v1/responses", headers=UPGRADE).status == 426
    client.connection.close()
    websocket(gateway)


def test_without_websockets_clients_are_sent_to_post(start_gateway):
    gateway = start_gateway({"max_websockets": "0"})
    ask = ApiClient(gateway.url, gateway.key)
    answer = ask.send("GET", "/v1/responses", headers=UPGRADE)
    assert (answer.status, answer.json()["error"]["code"]) == (426, "upgrade_refused")


def test_another_server_cannot_take_the_connection_over(tmp_path):
    manager = build_plugin_manager(only=())
    app = create_app(read_settings(manager, {"FLOWAY_DATA_DIR": str(tmp_path)}), manager)
    try:
        answer = app.test_client().get("/v1/responses", headers=UPGRADE)
        assert (answer.status_code, answer.json["error"]["code"]) == (426, "upgrade_refused")
    finally:
        app.extensions["floway"].services.database.close_all()
