"""Requests through a running gateway: what the upstream is sent, and what comes back."""

import json

import pytest

from floway_core.testing import ApiClient, Reply, message_item, message_stream, unreachable_url

from .conftest import KEY, add, as_json, dispatches, model_list

GIVEN = {
    "model": "model-1",
    "input": [
        {"type": "message", "id": "msg_mine", "role": "user", "content": [{"type": "input_text", "text": "Hi \u00fc"}]},
        {"type": "thing_of_tomorrow", "id": "x", "payload": {"deep": [1, None]}},
    ],
    "temperature": 0.5,
    "store": False,
    "metadata": {"a": "b"},
    "field_of_tomorrow": {"z": [True]},
}


@pytest.mark.parametrize("stream", [None, False, True])
def test_the_body_goes_as_it_is(gateway, upstream, caller, stream):
    add(gateway, "one", upstream.url)
    given = GIVEN if stream is None else {**GIVEN, "stream": stream}
    upstream.script(
        Reply(message_stream()) if stream else as_json({"id": "resp_1", "output": [message_item("Hello.")]})
    )
    answer = caller.post(given)
    assert answer.status == 200
    output = answer.events()[-1]["response"]["output"] if stream else answer.json()["output"]
    assert output[0]["content"][0]["text"].startswith("Hello")
    (sent,) = dispatches(upstream)
    assert sent.path == "/v1/responses" and json.loads(sent.body) == given
    assert [(name.lower(), value) for name, value in sent.headers if name.lower() != "content-length"] == [
        ("content-type", "application/json"),
        ("accept", "text/event-stream" if stream else "application/json"),
        ("user-agent", "floway-openai/0.1.0"),
        ("authorization", f"Bearer {KEY}"),
        ("host", upstream.url.removeprefix("http://")),
    ]


@pytest.mark.parametrize("text", ["And then?", "cut off: \ud83d"])
def test_a_stored_history_goes_as_it_is(gateway, upstream, caller, text):
    add(gateway, "one", upstream.url)
    expected, previous = [], None
    for number in range(4):
        output = {**message_item(f"Hello {number} \u00fc."), "id": f"msg_{number}"}
        upstream.script(as_json({"id": f"resp_{number}", "output": [output]}))
        given = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        answer = caller.post({"model": "model-1", "input": [given], "previous_response_id": previous, "stream": False})
        assert answer.status == 200
        previous = answer.json()["id"]
        expected.append(given)
        assert json.loads(dispatches(upstream)[-1].body)["input"] == expected
        expected.append(output)


@pytest.mark.parametrize("stream", [False, True])
def test_a_stored_prompt_goes_alone(gateway, upstream, caller, stream):
    add(gateway, "one", upstream.url)
    given = {"model": "model-1", "prompt": {"id": "pmpt_1", "variables": {"name": "x"}}, "stream": stream}
    upstream.script(Reply(message_stream()) if stream else as_json({"output": [message_item("Hello.")]}))
    assert caller.post(given).status == 200
    (sent,) = dispatches(upstream)
    assert json.loads(sent.body) == given


def test_of_the_clients_headers_few_are_passed_on(gateway, upstream, caller):
    add(gateway, "one", upstream.url)
    upstream.script(*[Reply(message_stream())] * 3)
    gone = {"openai-organization": "org-theirs", "openai-project": "proj-theirs", "x-forwarded-for": "1.2.3.4"}
    caller.headers |= {**gone, "openai-beta": "responses=v2", "idempotency-key": "again", "user-agent": "theirs"}
    other = ApiClient(gateway.url, gateway.run("keys", "create", "other").stdout.strip(), {"idempotency-key": "again"})
    assert [client.create().status for client in (caller, caller, other)] == [200] * 3
    first, second, third = dispatches(upstream)
    assert first.header("openai-beta") == "responses=v2" and first.header("user-agent").startswith("floway-openai")
    assert not [name for name, _ in first.headers if name.lower() in gone]
    assert first.header("idempotency-key") == second.header("idempotency-key") != "again"
    assert third.header("idempotency-key") != first.header("idempotency-key"), "clients share the operator's key"


def test_the_operators_headers(gateway, upstream, caller):
    add(gateway, "one", upstream.url, "--header", "OpenAI-Project: proj-ours", "--header", "x-route:  a: b ")
    private = [("openai-organization", "org-ours"), ("openai-project", "proj-ours")]
    upstream.script(as_json({"output": []}, 200, *private, ("x-ratelimit-remaining-requests", "9")))
    answer = caller.create()
    assert (answer.status, answer.headers["x-ratelimit-remaining-requests"]) == (200, "9")
    assert not [name for name, _ in private if name in answer.headers]
    for request in upstream.requests:
        assert (request.header("openai-project"), request.header("x-route")) == ("proj-ours", "a: b")
        assert request.header("authorization") == f"Bearer {KEY}"


def test_an_upstream_without_a_key(gateway, upstream, caller):
    add(gateway, "one", upstream.url, key=None)
    upstream.script(as_json({"output": []}))
    assert caller.create().status == 200
    assert [request.header("authorization") for request in upstream.requests] == [None, None]


def test_a_new_key_is_used_from_the_next_request_on(gateway, upstream, caller):
    add(gateway, "one", upstream.url)
    upstream.script(*[as_json({"output": []})] * 3)
    assert caller.create().status == 200
    assert gateway.run("upstreams", "set", "one", "--key-file", "-", typed="sk-next").returncode == 0
    assert caller.create().status == 200
    assert gateway.run("upstreams", "set", "one", "--no-key").returncode == 0
    assert caller.create().status == 200
    assert [sent.header("authorization") for sent in dispatches(upstream)] == [f"Bearer {KEY}", "Bearer sk-next", None]


@pytest.mark.parametrize("status", [401, 400])
def test_an_upstream_that_quotes_the_key(gateway, upstream, caller, status):
    add(gateway, "one", upstream.url)
    error = {
        "message": f"Incorrect API key provided: {KEY}.",
        "type": "invalid_request_error",
        "code": "invalid_api_key",
    }
    upstream.script(as_json({"error": error}, status))
    answer = caller.create()
    assert KEY not in answer.body.decode() and KEY not in gateway.log
    if status == 401:
        assert (answer.status, answer.json()["error"]["code"]) == (503, "upstream_account_refused")
    else:
        masked = {**error, "message": error["message"].replace(KEY, "***"), "param": None}
        assert (answer.status, answer.json()) == (400, {"error": masked})


def test_a_refusal_is_relayed_byte_for_byte(gateway, upstream, caller):
    add(gateway, "one", upstream.url)
    usual = b'"message": "Slow down.", "type": "t", "param": null, "code": null'
    content = b'{ "error": {%s, "resets_in": 7} }' % usual
    upstream.script(Reply([content], 429, [("content-type", "application/json"), ("retry-after", "7")], "length"))
    answer = caller.create()
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (429, content, "7")


# --------------------------------------------------------------------------------------------------------------- models
def test_the_models_are_asked_for_once(gateway, upstream, caller):
    add(gateway, "one", upstream.url)
    upstream.script(*[as_json({"output": []})] * 3)
    assert [caller.create(model=model).status for model in ("model-1", "model-2", "model-1", "none")] == [200] * 3 + [
        404
    ]
    assert [model["id"] for model in caller.get("/v1/models").json()["data"]] == ["model-1", "model-2"]
    assert [request.path for request in upstream.requests if request.method == "GET"] == ["/v1/models"]
    assert caller.get("/v1/models/model-2").json()["owned_by"] == "them"


def test_models_that_the_operator_names_are_not_asked_for(gateway, upstream, caller):
    add(gateway, "one", upstream.url, "--model", "deployment-a", "--model", "org/deployment-b")
    upstream.script(as_json({"output": []}))
    assert caller.create(model="org/deployment-b").status == 200
    assert caller.create(model="model-1").status == 404
    assert [request.method for request in upstream.requests] == ["POST"]
    assert json.loads(upstream.requests[0].body)["model"] == "org/deployment-b"


def test_a_prefix_tells_upstreams_apart(gateway, upstream, caller):
    add(gateway, "one", upstream.url, "--prefix", "team/a")
    upstream.script(as_json({"output": []}))
    assert caller.create(model="model-1").status == 404
    assert caller.create(model="team/a/model-1").status == 200
    assert json.loads(dispatches(upstream)[0].body)["model"] == "model-1"
    assert json.loads(gateway.run("models", "--json").stdout) == {"team/a/model-1": ["one"], "team/a/model-2": ["one"]}


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        (as_json({"error": {"message": f"No {KEY}"}}, 401), "answered 401"),
        (as_json({"models": []}), "sent no model list"),
        (Reply([b"<html>"], 200, [("content-type", "text/html")]), "sent no model list"),
    ],
)
def test_a_list_that_cannot_be_had(gateway, upstream, caller, listed, says):
    upstream.answer_always("/v1/models", listed)
    add(gateway, "one", upstream.url)
    assert gateway.run("echo", "add", "mirror").returncode == 0
    assert caller.create(model="echo").status == 200, "others are served"
    assert '(models from upstream(s) "one" failed to load)' in caller.create().json()["error"]["message"]
    assert len(upstream.requests) == 1, "it is not asked again at once"
    tried = gateway.run("upstreams", "test", "one")
    assert tried.returncode == 1 and says in tried.stderr and KEY not in tried.stderr + gateway.log


def test_a_list_with_odd_entries(gateway, upstream, caller):
    odd = [
        {"id": "good"},
        {"id": 7},
        {"id": ""},
        "text",
        None,
        {"id": "other", "owned_by": 5, "created": "x", "more": []},
    ]
    upstream.answer_always("/v1/models", as_json({"data": odd}))
    add(gateway, "one", upstream.url)
    found = {model["id"]: (model["owned_by"], model["created"]) for model in caller.get("/v1/models").json()["data"]}
    assert found == {"good": ("", 0), "other": ("", 0)}


# ------------------------------------------------------------------------------------------------------ several of them
def test_another_one_takes_over_when_one_fails(gateway, upstream, caller):
    with unreachable_url() as nowhere:
        add(gateway, "down", nowhere, "--model", "model-1")
        add(gateway, "up", upstream.url, key="sk-other")
        upstream.script(as_json({"output": []}))
        assert caller.create().status == 200
    assert dispatches(upstream)[0].header("authorization") == "Bearer sk-other"


@pytest.mark.parametrize("compacts", [True, False])
def test_compaction(gateway, upstream, caller, compacts):
    add(gateway, "one", upstream.url, *(["--compacts"] if compacts else []))
    sealed = {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"}
    upstream.script(as_json({"output": [sealed if compacts else message_item("The user said hi.")]}))
    answer = caller.post({"model": "model-1", "input": "Hi"}, "/v1/responses/compact")
    assert answer.status == 200
    (item,) = answer.json()["output"]
    last = json.loads(dispatches(upstream)[0].body)["input"][-1]
    if compacts:
        assert item == sealed and last == {"type": "compaction_trigger"}
    else:
        assert item["encrypted_content"].startswith("floway1.") and last["role"] == "user"


def test_an_upstream_that_is_not_set_up(gateway, upstream, caller):
    add(gateway, "one", upstream.url)
    assert "--base-url" in gateway.run("upstreams", "add", "openai", "bare").stderr
    upstream.answer_always("/v1/models", model_list("model-1"))
    other_secret = {"FLOWAY_SECRET_KEY": "another"}
    assert "cannot be decrypted" in gateway.run("upstreams", "test", "one", environ=other_secret).stderr
