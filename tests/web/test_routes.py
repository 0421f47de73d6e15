"""Paths and methods, models and health."""

import pytest

from floway_core import __version__
from floway_core.testing import Reply, message_stream

from ..support.websocket_client import UPGRADE


@pytest.mark.parametrize("target", [("GET", "/nothing"), ("GET", "/v1/nothing"), ("PUT", "/x y")])
def test_an_unknown_path(ask, refused, target):
    method, path = target[0], target[1].replace(" ", "%20")
    assert refused(ask.send(method, path), 404, "not_found") == f"{target[0]} {target[1]} does not exist."


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/responses", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("DELETE", "/v1/responses", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("POST", "/v1/models", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/healthz", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method(ask, refused, method, path, allowed):
    answer = ask.send(method, path)
    refused(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_the_root_says_what_this_is(ask):
    answer = ask.get("/", authorization=None)
    assert answer.status == 200 and answer.json()["name"] == "Floway"
    for path in answer.json()["serves"].values():
        assert ask.get(path).status in (200, 426), f"{path} is there"
    assert __version__ not in answer.body.decode()


def test_a_probe_of_the_root_is_answered(ask):
    answer = ask.send("HEAD", "/", headers={"authorization": None})
    assert (answer.status, answer.body) == (200, b"")
    assert ask.send("POST", "/").status == 405


ELSEWHERE = [
    ("POST", "/v1/chat/completions", "Chat Completions"),
    ("POST", "/chat/completions/", "Chat Completions"),
    ("GET", "/v1/chat/completions/chatcmpl-1", "Chat Completions"),
    ("POST", "/v1/messages", "the Messages API"),
    ("POST", "/v1/messages/count_tokens?beta=true", "the Messages API"),
    ("POST", "/v1beta/models/model-1:generateContent", "the generateContent API"),
    ("GET", "/v1beta", "the generateContent API"),
    ("POST", "/v1/embeddings", "the Embeddings API"),
    ("POST", "/v1/completions", "the Completions API"),
    ("DELETE", "/v1/files/file_1", "the Files API"),
    ("POST", "/v1/images/generations", "the Images API"),
    ("POST", "/v1/audio/transcriptions", "the Audio API"),
    ("GET", "/v1/realtime", "the Realtime API"),
    ("POST", "/api/chat", "a model server's own API"),
    ("GET", "/api/tags", "a model server's own API"),
]


@pytest.mark.parametrize(("method", "path", "feature"), ELSEWHERE)
@pytest.mark.parametrize("key", [True, False], ids=["key", "no key"])
def test_who_asks_for_what_is_not_offered_is_told_what_is(ask, refused, method, path, feature, key):
    headers = {} if key else {"authorization": None}
    message = refused(ask.send(method, path, b"{}", headers), 404, "unsupported_endpoint")
    served = "Floway serves the Responses API: POST /v1/responses. Everything it serves is described at /openapi.json."
    assert message == f"{method} {path.partition('?')[0]} is not served here: Floway does not offer {feature}. {served}"


@pytest.mark.parametrize("path", ["/v1/chat", "/api", "/api/keys", "/chats", "/v1/filesystem", "/v1", "/v1/"])
def test_paths_that_nobody_knows_stay_unknown(ask, refused, path):
    assert refused(ask.get(path), 404, "not_found") == f"GET {path} does not exist."


@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/v1/responses?a=b"])
@pytest.mark.parametrize("headers", [{}, {**UPGRADE, "upgrade": "h2c"}], ids=["plain", "another protocol"])
def test_what_asks_for_no_websocket_is_sent_to_post(ask, refused, path, headers):
    refused(ask.send("GET", path, headers=headers), 426, "upgrade_refused")


@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/v1/responses?beta=true&x=%FF"])
def test_a_response_can_be_created_at_each_path(ask, fake_upstream, path):
    fake_upstream.script(Reply(message_stream()))
    assert ask.post({"model": "model-1", "input": "Hi"}, path).status == 200


def test_every_request_has_an_id_of_its_own(ask):
    ids = {ask.get(path).headers["x-request-id"] for path in ("/healthz", "/healthz", "/v1/models", "/nowhere")}
    assert len(ids) == 4


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
def test_models_are_listed_once_in_the_order_of_the_upstreams(ask, path):
    answer = ask.get(path)
    assert answer.status == 200
    described = [
        {"id": name, "object": "model", "created": 1700000000, "owned_by": "wire"}
        for name in ("model-1", "model-2", "org/model-3", "shared")
    ] + [{"id": "canned", "object": "model", "created": 0, "owned_by": "canned"}]
    assert answer.json() == {"object": "list", "data": described}


@pytest.mark.parametrize("name", ["model-2", "org/model-3", "canned"])
def test_one_model(ask, name):
    answer = ask.get(f"/v1/models/{name}")
    assert (answer.status, answer.json()["id"], answer.json()["object"]) == (200, name, "model")


def test_one_unknown_model(ask, refused):
    assert "model-9" in refused(ask.get("/v1/models/model-9"), 404, "model_not_found", "model")


def test_an_upstream_without_its_list_does_not_hide_the_others(ask, gateway, refused):
    assert gateway.run("add-wire", "moody").returncode == 0
    try:
        assert ask.get("/v1/models").status == 200
        message = refused(ask.create(model="model-9"), 404, "model_not_found", "model")
    finally:
        assert gateway.run("upstreams", "remove", "moody", "--yes").returncode == 0
    hint = ' (models from upstream(s) "moody" failed to load)'
    assert message == f"Model model-9 is not available on any configured upstream{hint}."


def test_a_model_of_two_upstreams_is_served_by_the_first(ask, fake_upstream):
    fake_upstream.script(Reply(message_stream("from the first")))
    assert ask.create(model="shared").json()["output"][0]["content"][0]["text"] == "from the first"


def test_health(ask):
    assert ask.get("/healthz", authorization=None).json() == {"status": "ok"}
    ready = ask.get("/readyz", authorization=None)
    assert ready.status == 200
    assert ready.json() == {"status": "ok", "providers": ["canned", "wire"], "upstreams": 2, "problems": []}
