"""What a gateway does with a dialect beside its own: shared paths, faults of its code, and what providers see."""

import json

import pytest

from floway_core.testing import Reply, message_stream
from floway_core.testing.dialect_kit import exchange_raw

LETTER = {"to": "kit-1", "lines": ["Dear model,", "how are you?"]}
FAULTS = "the dialect 'letters' of plugin 'letters' failed"


def trouble(answer, status):
    assert answer.status == status, answer.body
    return answer.json()["trouble"]


# ------------------------------------------------------------------------------------------------------- shared paths
def test_a_mark_tells_requests_for_models_apart(caller):
    assert caller.get("/v1/models").json()["object"] == "list"
    assert caller.get("/v1/models", letters_version="2").json() == {
        "writers": ["kit-1", "org/kit-2", "penpal-1", "org/penpal-2"]
    }
    assert caller.get("/v1/models?limit=1", letters_version="2").json() == {"writers": ["kit-1"]}
    assert caller.get("/v1/models/org/kit-2").json()["id"] == "org/kit-2"
    assert caller.get("/v1/models/org/kit-2", letters_version="2").json() == {"writer": "org/kit-2"}
    assert caller.get("/models", letters_version="2").json()["object"] == "list"


def test_errors_of_a_shared_path_follow_the_mark(caller):
    assert trouble(caller.get("/v1/models/nothing", letters_version="2"), 404)["kind"] == "model_not_found"
    assert trouble(caller.get("/v1/models", letters_version="2", authorization=None), 401)["kind"] == "invalid_api_key"
    assert caller.get("/v1/models/nothing").json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/v1/letters/post/office", "/v1/letters", "/v1/letters/", "/v1/letters/kit-1:burn"])
def test_paths_below_the_prefix_speak_the_dialect(caller, path):
    answer = caller.get(path)
    assert trouble(answer, 405 if path.rstrip("/") == "/v1/letters" else 404)["words"]
    assert answer.headers["letter-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/lettersome", "/v1/nothing", "/letters"])
def test_other_paths_do_not(caller, path):
    answer = caller.get(path)
    assert answer.status == 404 and answer.json()["error"]["code"] == "not_found"
    assert answer.headers["letter-id"] is None


def test_a_mark_decides_where_no_path_does(caller):
    assert trouble(caller.get("/nothing", letters_version="2"), 404)["kind"] == "not_found"


# ----------------------------------------------------------------------------------------------------------- requests
MARK, BROKEN = b"letters-version: 1\r\n", b"x y: 1\r\n"


@pytest.mark.parametrize(
    ("target", "head", "speaks_letters"),
    [
        (b"/v1/letters", BROKEN, True),
        (b"/v1/models", MARK + BROKEN, True),
        (b"/v1/models", b"x-long: " + b"x" * 2000 + b"\r\n" + BROKEN + MARK, True),
        (b"/nowhere", b"Letters-Version:\r\n" + BROKEN, True),
        (b"/v1/models", BROKEN, False),
        (b"/v1/models", BROKEN + b"\r\n" + MARK, False),  # in the body
        (b"/v1/responses", MARK + BROKEN, False),
        (b"", MARK + BROKEN, True),
    ],
)
def test_what_is_no_valid_http_follows_path_and_mark(gateway, target, head, speaks_letters):
    request = b"POST %s HTTP/1.1\r\nhost: a\r\n%s\r\n" % (target, head)
    received = exchange_raw(gateway.url, request)
    assert b" 400 Bad Request" in received
    assert (b'"trouble"' in received) is speaks_letters, received


def test_a_path_may_name_the_model_and_stream(caller, upstream):
    upstream.script(Reply(message_stream("Fine.")))
    answer = caller.post({"lines": ["Hi"]}, "/v1/letters/kit-1:read-aloud?colour=red")
    assert answer.headers.get_content_type() == "text/event-stream"
    assert answer.body.endswith(b'data: {"greetings": 1}\n\ndata: {"bye": true}\n\n')
    (request,) = upstream.requests
    assert "colour: red" in request.body.decode()


@pytest.mark.parametrize("path", ["/v1/letters", "/v1/letters/kit-1:read-aloud"])
@pytest.mark.parametrize("aloud", [True, False])
def test_the_upstream_is_asked_for_a_stream_if_the_client_wants_one(caller, upstream, path, aloud):
    upstream.script(Reply(message_stream()))
    answer = caller.post({**LETTER, "aloud": aloud}, path)
    is_stream = answer.headers.get_content_type() == "text/event-stream"
    assert is_stream == (aloud or path.endswith("aloud")) and answer.body
    assert (json.loads(upstream.requests[0].body).get("stream") is True) == is_stream


def test_a_provider_sees_the_original_without_keys(caller, gateway, upstream):
    upstream.script(Reply(message_stream()))
    headers = {"authorization": None, "x-stamp": "a decoy", "x-mine": "kept"}
    path = f"/v1/letters?stamp={gateway.key}&colour=red"
    assert caller.send("POST", path, json.dumps(LETTER).encode(), headers).status == 401
    headers["x-stamp"] = gateway.key
    assert caller.send("POST", path, json.dumps(LETTER).encode(), headers).status == 200
    seen, query = json.loads(upstream.requests[0].header("x-kit-client-headers"))
    assert query == {"colour": "red"} and seen["x-mine"] == "kept" and "x-stamp" not in seen


def test_the_credentials_of_one_dialect_are_hidden_in_requests_of_others(caller, gateway, upstream):
    upstream.script(Reply(message_stream()))
    body = json.dumps({"model": "kit-1", "input": "Hi"}).encode()
    assert caller.send("POST", "/v1/responses", body, {"x-stamp": gateway.key}).status == 200
    assert gateway.key not in str(upstream.requests[0])


def test_errors_name_the_fields_of_the_client(caller):
    assert trouble(caller.post({"to": "kit-1", "lines": 7}, "/v1/letters"), 400)["where"] == "lines"
    assert trouble(caller.post({"lines": []}, "/v1/letters"), 400)["where"] == "model"


# -------------------------------------------------------------------------------------------------------------- faults
@pytest.mark.parametrize(("line", "reason"), [("STUMBLE", "the reader stumbles"), ("EXIT", "the reader exits")])
def test_a_reader_that_raises_is_logged_with_its_plugin(caller, gateway, line, reason):
    found = trouble(caller.post({"to": "kit-1", "lines": [line]}, "/v1/letters"), 500)
    assert found["kind"] == "internal_error" and reason not in found["words"]
    assert FAULTS in gateway.log and reason in gateway.log


@pytest.mark.parametrize("model", ["STUMBLE", "EXIT", "FINE"])
def test_an_error_that_raises_or_is_none_becomes_one_of_core(caller, gateway, model):
    answer = caller.post({"to": model, "lines": []}, "/v1/letters")
    assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert "The dialect 'letters' of plugin 'letters' failed in error" in gateway.log


@pytest.mark.parametrize(("word", "reason"), [("RAISE", "the translator stumbles"), ("EXIT", "the translator exits")])
def test_a_translator_that_raises_ends_the_stream_visibly(caller, gateway, upstream, word, reason):
    upstream.script(Reply(message_stream(f"{word} a glass", pieces=2)))
    body = caller.post({**LETTER, "aloud": True}, "/v1/letters").body
    assert body.endswith(b'data: {"trouble": "The gateway failed to translate the response."}\n\n')
    assert b"bye" not in body and b"greetings" not in body
    assert "The translator of dialect 'letters'" in gateway.log and reason in gateway.log


@pytest.mark.parametrize("model", ["kit-1", "penpal-1"])
def test_an_upstreams_error_is_passed_on_as_it_is_only_if_it_speaks_the_dialect(caller, upstream, model):
    body = b'{"trouble": {"kind": "ink", "words": "dry", "where": null}}'
    upstream.script(Reply([body], 400, [("content-type", "application/json")], "length"))
    answer = caller.post({**LETTER, "to": model}, "/v1/letters")
    assert answer.status == 400 and (answer.body == body) == (model == "penpal-1")


def test_the_description_tells_what_the_plugin_adds(caller):
    described = caller.get("/openapi.json").json()
    assert described["paths"]["/v1/letters"]["post"]["tags"] == ["letters"]
    assert described["paths"]["/v1/letters/{to}:read-aloud"]["post"]["parameters"][0]["name"] == "to"
    assert "the header letters-version" in described["paths"]["/v1/models"]["get"]["description"]
    assert {"name": "letters", "description": "Added by the plugin letters."} in described["tags"]


def test_the_command_line_tells_it_too(gateway):
    listed = {plugin["name"]: plugin for plugin in json.loads(gateway.run("plugins", "--json").stdout)}
    assert listed["letters"]["dialects"] == ["letters"]
    assert "POST /v1/letters" in listed["letters"]["routes"]
    assert "GET /v1/models (letters)" in listed["letters"]["routes"]
    assert listed["kit"]["settings"] == ["kit_url"]
