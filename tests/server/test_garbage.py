"""What a request has used is free as soon as it has ended, and does not wait for the garbage collector.

The collector visits old objects rarely. A request that waits for it keeps its whole conversation in memory meanwhile.
"""

import os

import pytest

from floway_core.testing import ApiClient, Reply, RunningGateway, Step, message_stream, write_plugin
from floway_core.testing.events import DONE

from ..support.stored_upstreams import add_upstreams

COLLECTOR = '''"""Lets a test stop the garbage collector, and see what it finds."""

import gc
import json

from flask import Blueprint

from floway_core.hookspecs import hookimpl


def stop():
    gc.collect()
    gc.disable()
    return "stopped"


def collect():
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    names = {f"{type(one).__module__}.{type(one).__name__}" for one in gc.garbage}
    gc.set_debug(0)
    gc.garbage.clear()
    return json.dumps(sorted(names))


@hookimpl
def register_routes():
    blueprint = Blueprint("collector", __name__)
    blueprint.add_url_rule("/stop-collector", view_func=stop)
    blueprint.add_url_rule("/collect", view_func=collect)
    return [blueprint]
'''

FIRST, *OTHERS = message_stream()


@pytest.fixture(scope="module")
def gateway(plugin_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("collector")
    write_plugin(folder, "collector", COLLECTOR)
    with RunningGateway(plugin_folders=[plugin_folder, folder], environ={"TEST_JOURNAL": os.devnull}) as gateway:
        add_upstreams(gateway, first="wire")
        yield gateway


def stream(ask, upstream):
    upstream.script(Reply(message_stream()))
    answer = ask.stream()
    assert answer.body.endswith(DONE)
    return answer


def whole(ask, upstream):
    upstream.script(Reply(message_stream()))
    answer = ask.create()
    assert answer.json()["status"] == "completed"
    return answer


def chunked_request(ask, upstream):
    upstream.script(Reply(message_stream()))
    pieces = (piece for piece in (b'{"model": "model-1", ', b'"input": "Hi"}'))
    answer = ask.send("POST", "/v1/responses", pieces, {"content-type": "application/json"})
    assert answer.json()["status"] == "completed"
    return answer


def continued(ask, upstream):
    previous = whole(ask, upstream).json()["id"]
    upstream.script(Reply(message_stream()))
    answer = ask.stream(previous_response_id=previous)
    assert answer.body.endswith(DONE)
    return answer


def hang_up(ask, upstream):
    upstream.script(Reply([FIRST, Step.HOLD, *OTHERS]))
    answer = ask.stream()
    answer.read_until(b"\n\n")
    answer.hang_up()
    return answer


def cut(ask, upstream):
    upstream.script(Reply([FIRST, Step.CUT]))
    answer = ask.stream()
    assert b"response.failed" in answer.body
    return answer


def refused(ask, upstream):
    upstream.script(Reply([b'{"error":{"message":"No."}}'], 400, [("content-type", "application/json")]))
    answer = ask.create()
    assert answer.status == 400
    return answer


@pytest.mark.parametrize("request_of", [stream, whole, chunked_request, continued, hang_up, cut, refused])
def test_nothing_waits_for_the_collector(ask, gateway, logged, fake_upstream, request_of):
    logged(request_of(ask, fake_upstream))  # the first one of a kind fills caches
    observer = ApiClient(gateway.url, gateway.key)
    assert observer.get("/stop-collector").body == b"stopped"
    for _ in range(3):
        logged(request_of(ask, fake_upstream))
    logged(observer.get("/healthz"))  # in the thread that has just ended a request, or in another one
    names = observer.get("/collect").json()
    assert not [name for name in names if name.startswith(("floway_core.", "gunicorn.", "httptools."))]
