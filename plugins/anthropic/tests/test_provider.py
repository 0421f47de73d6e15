"""Upstreams with the Messages API through a running gateway: clients that speak it, and clients that do not."""

import itertools
import json

import openai
import pytest

from floway_core.testing import ApiClient, Reply, Step

from . import wire
from .conftest import MessagesClient
from .test_door import check_error
from .test_events import accumulate

MODEL = "claude-test"
STREAMS = pytest.mark.parametrize("stream", [False, True])


@pytest.fixture
def client(messages_gateway):
    return MessagesClient(messages_gateway)


@pytest.fixture
def responses_client(messages_gateway):
    return ApiClient(messages_gateway.url, messages_gateway.key)


def posts(upstream):
    return [request for request in upstream.requests if request.method == "POST"]


def answer_of(answer, stream):
    assert answer.status == 200, answer.body
    return answer.events()[-1]["response"] if stream else answer.json()


# ------------------------------------------------------------------------------------------------------- pass-through
ODD = (
    b'{ "model":"claude-test","max_tokens": 5.0e1, "messages":[{"role":"user","content":"\\u00fc"}]'
    b',"of_tomorrow":{"a":[1e2]}'
)


@STREAMS
def test_not_a_byte_is_lost(client, messages_upstream, stream):
    body = ODD + (b',"stream": true }' if stream else b" }")
    odd = {"type": "of_tomorrow", "x": [1.0]}
    chunks = (
        wire.events(wire.think("Hm."), odd, wire.say("Text."))
        if stream
        else [json.dumps(wire.whole(odd, of_tomorrow=1), indent=1).encode()]
    )
    kind = "text/event-stream" if stream else "application/json"
    limits = [
        ("anthropic-ratelimit-requests-remaining", "7"),
        ("anthropic-organization-id", "org-1"),
        ("request-id", "u"),
    ]
    messages_upstream.script(Reply(chunks, headers=[("content-type", kind), *limits]))
    answer = client.post(body, "/v1/messages?beta=true", anthropic_beta="a-1,b-2", anthropic_custom="x", x_app="cli")
    assert answer.status == 200 and answer.body == b"".join(chunks)
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "7"
    assert "anthropic-organization-id" not in answer.headers
    assert answer.headers.get_all("request-id") == [answer.headers["x-request-id"]]
    (sent,) = posts(messages_upstream)
    assert (sent.path, sent.body) == ("/v1/messages?beta=true", body)
    assert sent.header("x-api-key") == "sk-ant-operator" and sent.header("authorization") is None
    expected = {"anthropic-beta": "a-1,b-2", "anthropic-version": "2023-06-01", "anthropic-custom": "x", "x-app": None}
    assert {name: sent.header(name) for name in expected} == expected


def test_what_other_upstreams_cannot_do(client, messages_upstream):
    messages_upstream.script(*[wire.as_json(wire.whole(wire.say("Yes.")))] * 4)
    prefill = {"role": "assistant", "content": "The answer is ("}
    for messages, fields in (
        (["Hi"], {"mcp_servers": [{"type": "url", "url": "https://a.example", "name": "a"}]}),
        (["Hi"], {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]}),
        (["Hi", prefill], {}),
        (["Hi"], {"container": "c", "tools": [{"type": "of_tomorrow"}]}),
    ):
        assert client.create(*messages, model=MODEL, **fields).status == 200


def test_usage_is_counted(client, messages_upstream, messages_gateway):
    messages_upstream.script(wire.stream(wire.say("Text.")), wire.as_json(wire.whole(wire.say("Text."))))
    ids = []
    for stream in (True, False):
        answer = client.create("Hi", model=MODEL, stream=stream)
        assert answer.body
        ids.append(answer.headers["request-id"])
    lines = [next(line for line in messages_gateway.log.splitlines() if f"id={one}" in line) for one in ids]
    assert all("outcome=completed" in line and "tokens=100/75/10" in line for line in lines), lines


@STREAMS
def test_errors_of_the_upstream_are_passed_on(client, messages_upstream, stream):
    messages_upstream.script(
        wire.error(429, "rate_limit_error", "Slow down.", ("retry-after", "9")),
        wire.error(529, "overloaded_error", "Overloaded"),
        wire.error(400, "invalid_request_error", "messages.0: bad sk-ant-operator"),
        wire.error(401, "authentication_error", "invalid x-api-key"),
    )
    limited = client.create("Hi", model=MODEL, stream=stream)
    assert (limited.status, limited.json()["error"]["message"], limited.headers["retry-after"]) == (
        429,
        "Slow down.",
        "9",
    )
    assert limited.json()["request_id"] == "req_u", "the body is the upstream's"
    overloaded = client.create("Hi", model=MODEL, stream=stream)
    assert (overloaded.status, overloaded.json()["error"]["type"]) == (529, "overloaded_error")
    bad = client.create("Hi", model=MODEL, stream=stream)
    assert bad.status == 400 and b"sk-ant-operator" not in bad.body and b"messages.0" in bad.body
    check_error(client.create("Hi", model=MODEL, stream=stream), 503, "overloaded_error", "sign-in")


def test_a_stream_that_breaks(client, messages_upstream):
    chunks = wire.events(wire.say("Half an answer"))[:4]
    failed = wire.event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    messages_upstream.script(Reply([*chunks, Step.CUT]), Reply([*chunks, failed]))
    for kind in ("api_error", "overloaded_error"):
        body = client.create("Hi", model=MODEL, stream=True).body
        assert body.startswith(b"".join(chunks)) and body.count(b"event: error\n") == 1
        assert json.loads(body.rpartition(b"data: ")[2])["error"]["type"] == kind


@pytest.mark.parametrize("later", [{}, {"stop_reason": None}])
def test_usage_that_follows_the_reason_of_the_stop(
    client, responses_client, messages_upstream, messages_gateway, later
):
    """A server may send several ``message_delta`` events; each brings what it knows."""
    chunks = wire.events(wire.say("Half"), stop_reason="max_tokens")
    chunks.insert(-1, wire.event("message_delta", delta=later, usage={"output_tokens": 12}))
    messages_upstream.script(Reply(chunks), Reply(chunks))
    response = answer_of(responses_client.create("Hi", model=MODEL, stream=True), True)
    assert (response["status"], response["usage"]["output_tokens"]) == ("incomplete", 12)
    answer = client.create("Hi", model=MODEL, stream=True)
    assert answer.body == b"".join(chunks)
    (line,) = messages_gateway.wait_for_log(f"id={answer.headers['request-id']}")
    assert "outcome=incomplete" in line and "tokens=100/75/12" in line


def test_counting_is_the_upstreams(client, messages_upstream):
    messages_upstream.answer_always("/v1/messages/count_tokens", wire.as_json({"input_tokens": 4321}))
    answer = client.create("Hi", model=MODEL, path="/v1/messages/count_tokens")
    assert (answer.json(), answer.headers["x-floway-token-count"]) == ({"input_tokens": 4321}, "upstream")
    messages_upstream.answer_always("/v1/messages/count_tokens", wire.error(404, "not_found_error", "No."))
    answer = client.create("Hi", model=MODEL, path="/v1/messages/count_tokens")
    assert answer.headers["x-floway-token-count"] == "estimate" and answer.json()["input_tokens"] > 3


@pytest.mark.parametrize(
    ("reply", "status", "kind", "message"),
    [
        (
            wire.error(400, "invalid_request_error", "tools.0: bad, sk-ant-operator"),
            400,
            "invalid_request_error",
            "tools.0: bad, ***",
        ),
        (wire.error(529, "overloaded_error", "Overloaded"), 529, "overloaded_error", "Overloaded"),
        (wire.error(401, "authentication_error", "invalid x-api-key"), 502, "api_error", "upstream"),
        (wire.error(404, "not_found_error", "No."), 501, "api_error", "does not count"),
        (Reply([b""], 500), 500, "api_error", "did not count"),
    ],
)
def test_what_only_the_upstream_can_count(client, messages_upstream, reply, status, kind, message):
    messages_upstream.answer_always("/v1/messages/count_tokens", reply)
    tools = [{"type": "code_execution_20250825", "name": "code_execution"}]
    answer = client.create("Hi", model=MODEL, path="/v1/messages/count_tokens?beta=true", tools=tools)
    check_error(answer, status, kind, message)
    assert posts(messages_upstream)[-1].path == "/v1/messages/count_tokens?beta=true"


def test_the_models_are_told_as_the_upstream_tells_them(client, messages_gateway):
    entries = {entry["id"]: entry for entry in client.get("/v1/models").json()["data"]}
    assert entries[MODEL]["display_name"] == "Claude-Test" and entries[MODEL]["created_at"] == "2026-01-01T00:00:00Z"


# ------------------------------------------------------------------------------------------------------- translated
@STREAMS
@pytest.mark.parametrize("upstream_streams", [True, False])
def test_clients_of_the_responses_api(responses_client, messages_upstream, stream, upstream_streams):
    blocks = [wire.think("Hm."), wire.say("I call."), wire.call("f", {"a": 1})]
    messages_upstream.script(wire.stream(*blocks) if upstream_streams else wire.as_json(wire.whole(*blocks)))
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    asked = responses_client.create("Hi", model=MODEL, stream=stream, tools=[tool], temperature=0.5, top_p=0.5)
    response = answer_of(asked, stream)
    assert [item["type"] for item in response["output"]] == ["reasoning", "message", "function_call"]
    assert asked.headers["x-floway-ignored"] == "top_p"
    messages_upstream.script(wire.stream(wire.say("Done.")))
    result = {"type": "function_call_output", "call_id": "toolu_1", "output": "42"}
    again = responses_client.create(
        [result], model=MODEL, stream=stream, previous_response_id=response["id"], tools=[tool]
    )
    assert answer_of(again, stream)["output"][0]["content"][0]["text"] == "Done."
    first, second = (json.loads(request.body) for request in posts(messages_upstream))
    assert second["messages"][1] == {"role": "assistant", "content": blocks}
    assert second["messages"][2]["content"][0]["tool_use_id"] == "toolu_1"
    assert first["system" if "system" in first else "tools"][-1]["cache_control"] == {"type": "ephemeral"}


def test_a_growing_conversation_repeats_itself(responses_client, messages_upstream):
    history = [{"role": "user", "content": "Begin."}]
    for number in range(4):
        messages_upstream.script(
            wire.stream(wire.think(f"{number}"), wire.call("f", {"n": number}, id=f"toolu_{number}"))
        )
        response = answer_of(responses_client.create(history, model=MODEL, store=False), False)
        result = {"type": "function_call_output", "call_id": f"toolu_{number}", "output": str(number)}
        history = [*history, *response["output"], result]
    bodies = [json.loads(request.body) for request in posts(messages_upstream)]
    for body in bodies:
        for message in body["messages"]:
            for block in message["content"]:
                block.pop("cache_control", None)
    for earlier, later in itertools.pairwise(bodies):
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]


def test_thinking_that_the_upstream_has_not_signed_is_left_out(responses_client, messages_upstream):
    messages_upstream.script(wire.stream(wire.think("Hm."), wire.say("One.")))
    first = answer_of(responses_client.create("Hi", model=MODEL), False)
    message = "messages.1.content.0: Invalid `signature` in `thinking` block"
    messages_upstream.script(wire.error(400, "invalid_request_error", message), wire.stream(wire.say("Two.")))
    second = responses_client.create("Go on", model=MODEL, previous_response_id=first["id"])
    assert answer_of(second, False)["output"][0]["content"][0]["text"] == "Two."
    kinds = [
        [block["type"] for block in json.loads(request.body)["messages"][1]["content"]]
        for request in posts(messages_upstream)[1:]
    ]
    assert kinds == [["thinking", "text"], ["text"]]


def test_the_openai_sdk(messages_gateway, messages_upstream):
    sdk = openai.OpenAI(base_url=f"{messages_gateway.url}/v1", api_key=messages_gateway.key, max_retries=0)
    messages_upstream.script(wire.stream(wire.say("Hello.")), wire.error(429, "rate_limit_error", "Slow down."))
    with sdk.responses.stream(model=MODEL, input="Hi") as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert final.output_text == "Hello." and final.usage.input_tokens_details.cached_tokens == 75
    with pytest.raises(openai.RateLimitError, match="Slow down"):
        sdk.responses.create(model=MODEL, input="Hi")


@STREAMS
def test_an_alias_with_overrides_is_translated(client, messages_upstream, messages_gateway, stream):
    done = messages_gateway.run("aliases", "set", "smart", MODEL, "--effort", "high")
    assert done.returncode == 0, done.stderr
    messages_upstream.script(wire.stream(wire.think("Hm."), wire.say("Text.")))
    answer = client.create("Hi", model="smart", stream=stream, thinking={"type": "adaptive"})
    message = accumulate(answer.events()) if stream else answer.json()
    assert (message["model"], message["content"][1]["text"]) == ("smart", "Text.")
    sent = json.loads(posts(messages_upstream)[-1].body)
    assert sent["model"] == MODEL and sent["thinking"]["type"] == "enabled"
    check_error(client.create("Hi", model="smart", container="c"), 400, "invalid_request_error", "container")


def test_the_key_can_be_a_bearer_token(messages_gateway, messages_upstream, client):
    options = ("--key-header", "bearer", "--prefix", "b")
    messages_gateway.add_upstream("anthropic", "bearer", f"{messages_upstream.url}/v1", *options, key="sk-bearer")
    messages_upstream.script(wire.as_json(wire.whole(wire.say("Yes."))))
    assert client.create("Hi", model=f"b/{MODEL}").status == 200
    (sent,) = posts(messages_upstream)
    assert sent.header("authorization") == "Bearer sk-bearer" and sent.header("x-api-key") is None
    assert json.loads(sent.body)["model"] == MODEL and sent.path == "/v1/messages"


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking": {"type": "of_tomorrow"}},
        {"output_config": {"effort": "of_tomorrow", "format": {"type": "grammar"}}},
        {"tool_choice": {"type": "of_tomorrow"}},
        {"tools": [{"name": "f", "of_tomorrow": {}}]},
        {"temperature": 2, "service_tier": "of_tomorrow"},
        {"stop_sequences": [{"of_tomorrow": "x"}]},
        {"system": [{"type": "of_tomorrow"}]},
        {"messages": [{"role": "of_tomorrow", "content": "Hi"}]},
    ],
)
@STREAMS
def test_what_the_plugin_cannot_read_is_left_to_the_upstream(client, messages_upstream, fields, stream):
    messages_upstream.script(wire.stream(wire.say("Yes.")) if stream else wire.as_json(wire.whole(wire.say("Yes."))))
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": MODEL, "max_tokens": 9, "messages": messages, "stream": stream, **fields}
    answer = client.post(body, "/v1/messages")
    assert answer.status == 200 and b"msg_upstream" in answer.body, answer.body
    (sent,) = posts(messages_upstream)
    assert json.loads(sent.body) == body
