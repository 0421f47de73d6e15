"""Chat clients on chat servers: what they send and what they get passes through byte for byte."""

import json
import time

import pytest

from floway_core.testing import Reply, RunningGateway, Step

from .chunks import join
from .conftest import CHAT_PATH, ChatClient
from .server_streams import CASES, DONE, STOP, USAGE, chunk
from .upstreams import JSON, add, as_json

BODY = b'{ "model" : "model-1",\n"messages":[{"role":"user","content":"Gr\\u00fc\xc3\x9fe"}], "top_k": 3, "odd":[1.50]}'


def completion(**fields):
    message = {"role": "assistant", "content": "Hi.", "odd": 1}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE, **fields}


def logged(gateway, answer):
    """The log line of a request, which is written when the last byte has left."""
    mark, deadline = f"id={answer.headers['x-request-id']} ", time.monotonic() + 60
    while not (lines := [line for line in gateway.log.splitlines() if mark in line]):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return lines[-1]


def test_a_whole_answer(caller, server, chat_gateway):
    answer_bytes = json.dumps(completion(), indent=1).encode()
    server.script(Reply([answer_bytes], headers=JSON))
    answer = caller.post(BODY, CHAT_PATH)
    assert answer.status == 200 and answer.body == answer_bytes
    assert server.requests[-1].body == BODY
    assert "tokens=7/0/5/0" in logged(chat_gateway, answer) and "outcome=completed" in logged(chat_gateway, answer)


@pytest.mark.parametrize("name", CASES)
def test_a_stream(caller, server, chat_gateway, name):
    case = CASES[name]
    server.script(Reply(case.chunks))
    body = BODY.replace(b'"top_k"', b'"stream":true, "top_k"')
    answer = caller.post(body, CHAT_PATH)
    assert answer.body == b"".join(case.chunks)
    assert server.requests[-1].body == body
    tokens = "tokens={}/{}/{}/{}".format(*case.usage)
    assert tokens in logged(chat_gateway, answer) and f"outcome={case.status}" in logged(chat_gateway, answer)


def test_a_stream_arrives_piece_by_piece(caller, server):
    server.script(Reply([chunk("Hello"), Step.HOLD, *STOP]))
    answer = caller.chat(stream=True)
    answer.read_until(b"Hello")
    server.release.set()
    assert answer.body.endswith(DONE)


def test_another_name_of_the_model(server):
    with RunningGateway(installed=["chat"]) as gateway:
        add(gateway, "one", server.url, "--model", "model-1", "--prefix", "mine")
        server.script(as_json(completion()), as_json(completion()))
        client = ChatClient(gateway.url, gateway.key)
        body = BODY.replace(b'"model-1"', b'"mine/model-1"')
        assert client.post(body, CHAT_PATH).status == 200
        assert server.requests[-1].body == BODY
        twice = body.replace(b'"odd"', b'"model":"mine/model-1","odd"')
        assert client.post(twice, CHAT_PATH).status == 200
        assert json.loads(server.requests[-1].body)["model"] == "model-1"


def test_the_overrides_of_an_alias_reach_the_server(server):
    with RunningGateway(installed=["chat"]) as gateway:
        add(gateway, "one", server.url, "--model", "model-1")
        done = gateway.run("aliases", "set", "quick", "model-1", "--effort", "low")
        assert done.returncode == 0, done.stderr
        server.script(as_json(completion()))
        client, fields = ChatClient(gateway.url, gateway.key), {"n": 2, "stop": ["X"], "guided_json": {}, "top_k": 3}
        answer = client.chat(model="quick", reasoning={"effort": "high"}, **fields)
        assert answer.body == json.dumps(completion()).encode()
        sent = json.loads(server.requests[-1].body)
        assert sent.pop("messages") and sent == {"model": "model-1", "reasoning_effort": "low", **fields}
        for server_name, expected in (
            ("deepseek", {"thinking": {"budget": 7, "type": "enabled"}}),
            ("vllm", {"thinking": {"budget": 7}, "reasoning_effort": "low"}),
        ):
            add(gateway, server_name, server.url, "--model", f"{server_name}-1", "--server", server_name)
            done = gateway.run(
                "aliases", "set", server_name, f"{server_name}-1", "--effort", "low", "--service-tier", "flex"
            )
            assert done.returncode == 0, done.stderr
            server.script(as_json(completion()))
            answer = client.chat(model=server_name, reasoning_effort="high", thinking={"budget": 7}, user="u")
            assert "x-floway-ignored" not in answer.headers
            sent = json.loads(server.requests[-1].body)
            assert sent.pop("messages") and sent == {"model": f"{server_name}-1", "user": "u", **expected}


def test_nothing_is_stored(caller, server):
    server.script(as_json(completion(id="chatcmpl-1")))
    answer = caller.chat()
    response_id = f"resp_{answer.headers['x-request-id'].replace('-', '')}"
    assert caller.get(f"/v1/responses/{response_id}").status == 404


@pytest.mark.parametrize("asks", [True, False])
def test_the_token_limit_of_a_key_holds(caller, server, chat_gateway, asks):
    """The gateway asks for the usage itself, and keeps it from a client that has not."""
    name = f"limited-{asks}"
    created = chat_gateway.run("keys", "create", name, "--tokens-per-day", "20")
    assert created.returncode == 0, created.stderr
    client = ChatClient(chat_gateway.url, created.stdout.strip())
    chunks = [chunk("Hello."), *STOP]
    server.script(Reply(chunks), Reply(chunks), Reply(chunks))
    options = {"stream_options": {"include_usage": True}} if asks else {}
    answer = client.chat(stream=True, **options)
    assert (b"prompt_tokens" in b"".join(line for line in answer.body.splitlines() if line[:1] != b":")) is asks
    assert answer.body.endswith(DONE) and b"Hello." in answer.body
    assert json.loads(server.requests[-1].body)["stream_options"] == {"include_usage": True}
    assert client.chat(stream=True, **options).body.endswith(DONE)
    assert client.chat(stream=True, **options).status == 429


def test_a_failure_in_a_stream(caller, server):
    server.script(Reply([chunk("Hel"), b'data: {"error":{"message":"It broke."}}\n\n']))
    body = caller.chat(stream=True).body
    assert b"It broke." in body and b"[DONE]" not in body


def test_a_stream_that_is_cut(caller, server):
    server.script(Reply([chunk("Hel"), Step.CUT]))
    body = caller.chat(stream=True).body
    assert body.startswith(chunk("Hel")) and b'data: {"error":' in body and b"[DONE]" not in body


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": "Hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"model": 7}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"Stream": True}, "Stream"),
    ],
)
def test_what_the_gateway_decides_by_must_be_valid(caller, server, fields, param):
    answer = (
        caller.chat(**{"messages": "Hi", **fields})
        if "messages" not in fields
        else caller.post({"model": "model-1", **fields}, CHAT_PATH)
    )
    assert answer.status == 400 and answer.json()["error"]["param"] == param
    assert not server.requests


CALL = {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def test_a_document_instead_of_a_stream(caller, server):
    message = {"role": "assistant", "content": "Hi.", "reasoning_content": "Hm.", "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    server.script(as_json(completion(choices=[choice])))
    answer = caller.chat(stream=True, stream_options={"include_usage": True})
    told = join(answer.body)
    assert (told["content"], told["reasoning_content"], told["finish_reason"]) == ("Hi.", "Hm.", "tool_calls")
    assert told["calls"][0]["id"] == "call_a" and told["usage"]["total_tokens"] == 12
    assert answer.body.endswith(DONE)


def test_a_stream_instead_of_a_document(caller, server):
    server.script(
        Reply([chunk({"reasoning": "Hm."}), chunk("Hi."), chunk({"tool_calls": [{**CALL, "index": 0}]}), *STOP])
    )
    choice = caller.chat().json()["choices"][0]
    assert (choice["message"]["content"], choice["message"]["tool_calls"]) == ("Hi.", [CALL])


@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_in_the_other_format(caller, server, stream):
    failure = b'{"error":{"message":"It broke.","code":"overloaded"}}'
    server.script(as_json(json.loads(failure)) if stream else Reply([b"data: %s\n\n" % failure]))
    assert b"It broke." in caller.chat(stream=stream).body


@pytest.mark.parametrize(
    "twice",
    [
        b'"model":"other","model":"model-1"',
        b'"mod\\u0065l":"other","model":"model-1"',
        b'"model":"model-1","stream_options":{"include_usage":false,"include_usage":true}',
    ],
)
def test_a_field_that_occurs_twice_is_sent_once(caller, server, twice):
    server.script(as_json(completion()))
    assert caller.post(b'{%s,"messages":[{"role":"user","content":"Hi"}]}' % twice, CHAT_PATH).status == 200
    sent = server.requests[-1].body
    assert b"other" not in sent and b"false" not in sent and json.loads(sent)["model"] == "model-1"


def test_a_tool_with_a_field_of_the_same_name_changes_nothing(caller, server):
    schema = b'{"type":"object", "properties":{"model":{"type":"string"}}}'
    body = BODY.replace(
        b'"top_k"', b'"tools":[{"type":"function","function":{"name":"f","parameters":%s}}], "top_k"' % schema
    )
    server.script(as_json(completion()))
    assert caller.post(body, CHAT_PATH).status == 200
    assert server.requests[-1].body == body


def messages(*added):
    return {"messages": [{"role": "user", "content": "Hi"}, *added]}


ONLY_CHAT_SERVERS = {
    "n": {"n": 2},
    "modalities": {"modalities": ["text", "audio"], "audio": {"voice": "alloy"}},
    "messages[1].content[0].type": messages(
        {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "https://x/y.mp4"}}]}
    ),
    "messages[1].content[0].image_url": messages(
        {"role": "user", "content": [{"type": "image_url", "image_url": "https://x/y.png"}]}
    ),
    "messages[1].role": messages({"role": "ipython", "content": "3"}),
    "messages[1].tool_calls[0].function.arguments": messages(
        {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {"a": 1}}}]},
        {"role": "tool", "tool_call_id": "call_a", "content": "Sun."},
    ),
    "messages[1].tool_calls": messages({"role": "assistant", "content": None, "tool_calls": [CALL]}),
    "tool_choice": {"tool_choice": "any"},
    "tools[0].type": {"tools": [{"type": "builtin_function", "function": {"name": "$web_search"}}]},
    "response_format.type": {"response_format": {"type": "grammar", "value": "root ::= x"}},
    "stop": {"stop": list("abcdef")},
    "stop[0]": {"stop": [7]},
    "max_tokens": {"max_tokens": -1},
    "temperature": {"temperature": 5},
    "metadata.run": {"metadata": {"run": {"id": 7}}},
    "reasoning_effort": {"reasoning_effort": 3},
    "top_logprobs": {"top_logprobs": 3},
}
"""By the path of the field that the Responses API cannot express: fields of a request."""


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("param", ONLY_CHAT_SERVERS)
def test_what_only_a_chat_server_can_do(caller, server, param, stream):
    answer_bytes = b"".join([chunk("Hi."), *STOP]) if stream else json.dumps(completion(), indent=1).encode()
    server.script(Reply([answer_bytes]) if stream else Reply([answer_bytes], headers=JSON))
    body = {"model": "model-1", "seed": 7, "stream": stream, **messages(), **ONLY_CHAT_SERVERS[param]}
    raw = json.dumps(body, indent=1).encode()
    answer = caller.post(raw, CHAT_PATH)
    assert answer.status == 200 and answer.body == answer_bytes
    assert server.requests[-1].body == raw and "x-floway-ignored" not in answer.headers


@pytest.mark.parametrize("param", ONLY_CHAT_SERVERS)
def test_other_upstreams_refuse_it(client, upstream, param):
    answer = client.post({"model": "model-1", **messages(), **ONLY_CHAT_SERVERS[param]}, CHAT_PATH)
    error = answer.json()["error"]
    assert (answer.status, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert not upstream.requests


def test_its_answer_in_the_other_format(caller, server):
    server.script(as_json(completion()), Reply([chunk("Hi."), *STOP]))
    told = join(caller.chat(stream=True, stop=[7], tool_choice="any").body)
    assert (told["content"], told["finish_reason"]) == ("Hi.", "stop")
    assert caller.chat(tool_choice="any").json()["choices"][0]["message"]["content"] == "Hi."


def test_its_failure(caller, server):
    server.script(as_json({"error": {"message": "No such choice.", "type": "BadRequestError"}}, 400))
    answer = caller.chat(tool_choice="any")
    assert answer.status == 400 and answer.json()["error"]["message"] == "No such choice."
    server.script(Reply([chunk("Hel"), Step.CUT]))
    body = caller.chat(stream=True, stop=[7]).body
    assert body.startswith(chunk("Hel")) and b'data: {"error":' in body


def test_other_apis_are_forwarded(caller, server, chat_gateway):
    content = b'{"data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}}'
    server.script(Reply([content], headers=JSON))
    answer = caller.post(b'{"model" :"model-1", "query": 1.50}', "/v1/rerank")
    assert (answer.status, answer.body) == (200, content)
    (sent,) = server.requests
    assert sent.path.endswith("/rerank") and sent.body == b'{"model" :"model-1", "query": 1.50}'
    assert sent.header("user-agent").startswith("floway-chat/") and sent.header("authorization")
    assert "tokens=3/0/0/0" in logged(chat_gateway, answer)
