"""Clients of the generateContent API on an upstream of the same API: nothing is translated."""

import json

import pytest
from floway_gemini import thoughts

from floway_core.testing import ApiClient, Step

from . import wire
from .conftest import GeminiClient

MODEL = "gemini-3-test"
KEY = "the-key-of-the-operator"
RAW = b'{ "contents" : [ {"role":"user","parts":[{"text":"\\u00fc"}]} ], "generation_config": {"topK": 1e1}, "new":{} }'
STREAM = f"/v1beta/models/{MODEL}:streamGenerateContent"


@pytest.fixture
def client(gemini_gateway):
    return GeminiClient(gemini_gateway)


def test_requests_and_answers_pass_byte_for_byte(client, gemini_upstream, gemini_gateway):
    reply = wire.stream(wire.think("Hm."), wire.signed(wire.say("Grüße \u2028.")), headers=[("server-timing", "x")])
    gemini_upstream.script(reply)
    answer = client.post(RAW, f"{STREAM}?alt=sse&x=1")
    assert answer.body == b"".join(reply.chunks)
    (sent,) = wire.posts(gemini_upstream)
    assert sent.body == RAW and sent.path == f"{STREAM}?x=1&alt=sse"
    assert sent.header("x-goog-api-key") == KEY and sent.header("x-goog-api-client") == "google-genai-sdk/3"
    assert gemini_gateway.key not in str(sent) and sent.header("authorization") is None
    gemini_gateway.wait_for_log("tokens=100/75/10/0")


def test_an_answer_in_one_piece_passes_too(client, gemini_upstream):
    reply = wire.whole(wire.say("Hello."))
    gemini_upstream.script(reply)
    answer = client.post(RAW, f"/v1/models/{MODEL}:generateContent")
    assert answer.body == reply.chunks[0] and answer.status == 200
    assert wire.posts(gemini_upstream)[0].path == f"/v1beta/models/{MODEL}:generateContent"


def test_an_array_has_the_elements_of_the_upstream(client, gemini_upstream):
    """As they arrive, although the upstream is asked for events."""
    chunks = wire.events(wire.say("One."), wire.say("Two."))
    gemini_upstream.script(wire.Reply([chunks[0], Step.HOLD, *chunks[1:]]))
    answer = client.post(RAW, STREAM)
    first = answer.read_until(b"One.")
    assert first.startswith(b"[{") and answer.headers.get_content_type() == "application/json"
    gemini_upstream.release.set()
    assert answer.json() == [json.loads(chunk.split(b"data: ")[1]) for chunk in chunks]
    assert wire.posts(gemini_upstream)[0].path == f"{STREAM}?alt=sse"


def test_pieces_behind_the_finish_reason_pass(client, gemini_upstream):
    """As of a second candidate, or with the usage."""
    late = wire.event(wire.piece(wire.say("More.")))
    chunks = [*wire.events(wire.say("One.")), late]
    gemini_upstream.script(wire.Reply([*chunks[:-1], Step.HOLD, late]))
    answer = client.post(RAW, f"{STREAM}?alt=sse")
    answer.read_until(b"finishReason")
    gemini_upstream.release.set()
    assert answer.body == b"".join(chunks)


@pytest.mark.parametrize("alt", ["?alt=sse", ""])
def test_a_failure_in_the_middle_reaches_the_client(client, gemini_upstream, alt, gemini_gateway):
    """Google sends it as plain JSON between the events."""
    error = wire.error_body(503, "UNAVAILABLE", "Overloaded.")
    first = wire.event(wire.piece(wire.say("One.")))
    gemini_upstream.script(wire.Reply([first, json.dumps(error, indent=2).encode() + b"\n"]))
    body = client.post(RAW, f"{STREAM}{alt}").body
    last = json.loads(body[body.index(b'{\n  "error"') :] if alt else body)
    assert (last if alt else last[-1]) == error
    gemini_gateway.wait_for_log("outcome=failed")


@pytest.mark.parametrize("alt", ["?alt=sse", ""])
def test_a_stream_that_is_cut_fails_visibly(client, gemini_upstream, alt):
    gemini_upstream.script(wire.Reply([*wire.events(wire.say("One."))[:-1], Step.CUT]))
    body = client.post(RAW, f"{STREAM}{alt}").body
    assert b'"error":{"code":502' in body
    assert bool(alt) or "error" in json.loads(body)[-1]


def test_errors_of_the_upstream_pass_byte_for_byte(client, gemini_upstream):
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
    for reply in (
        wire.error(429, "RESOURCE_EXHAUSTED", "Slow down.", info),
        wire.error(400, "INVALID_ARGUMENT", "No."),
    ):
        gemini_upstream.script(reply)
        refused = client.post(RAW, f"{STREAM}?alt=sse")
        assert (refused.status, refused.body) == (reply.status, reply.chunks[0])


def test_the_operators_key_is_not_quoted(client, gemini_upstream):
    gemini_upstream.script(wire.error(400, "INVALID_ARGUMENT", f"API key {KEY} not valid."))
    refused = client.post(RAW, f"{STREAM}?alt=sse")
    assert refused.status == 400 and KEY.encode() not in refused.body and "***" in refused.json()["error"]["message"]


def test_a_wrong_key_of_the_operator_is_no_fault_of_the_client(client, gemini_upstream):
    """Google refuses it with 400."""
    reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    gemini_upstream.script(wire.error(400, "INVALID_ARGUMENT", "API key not valid.", reason))
    refused = client.post(RAW, f"{STREAM}?alt=sse")
    assert refused.status == 503 and "your API key is valid" in refused.json()["error"]["message"]


def test_what_cannot_be_translated_passes(client, gemini_upstream):
    """Fields, tools and parts that only this API has."""
    gemini_upstream.script(wire.stream(wire.say("Yes.")))
    fields = {
        "tools": [{"codeExecution": {}}],
        "cachedContent": "cachedContents/1",
        "generationConfig": {"candidateCount": 2},
    }
    answer = client.generate("Hi", model=MODEL, stream=True, **fields)
    assert b"Yes." in answer.body
    sent = json.loads(wire.posts(gemini_upstream)[0].body)
    assert {name: sent[name] for name in fields} == fields


def test_reasoning_of_other_upstreams_is_removed(client, gemini_upstream):
    foreign = thoughts.encode_items([{"type": "reasoning", "id": "rs_1", "encrypted_content": "blob"}])
    own = {"type": "reasoning", "encrypted_content": thoughts.encode_part_signature("dGhlaXJz", is_call=True)}
    call = {"functionCall": {"name": "f", "args": {}, "id": "a"}}
    parts = [
        {"text": "One.", "thoughtSignature": foreign},
        {**call, "thoughtSignature": foreign},
        {**call, "thought_signature": thoughts.encode_items([own])},
        {"text": "", "thoughtSignature": foreign},
        {"text": "Two.", "thoughtSignature": "dGhlaXJz"},
    ]
    gemini_upstream.script(wire.stream(wire.say("Yes.")))
    client.generate("Hi", {"role": "model", "parts": parts}, "On", model=MODEL, stream=True).body  # noqa: B018
    assert json.loads(wire.posts(gemini_upstream)[0].body)["contents"][1]["parts"] == [
        {"text": "One."},
        {**call, "thoughtSignature": "skip_thought_signature_validator"},
        {**call, "thought_signature": "dGhlaXJz"},
        {"text": "Two.", "thoughtSignature": "dGhlaXJz"},
    ]


def test_an_alias_gives_the_upstream_its_own_name(client, gemini_upstream, gemini_gateway):
    assert gemini_gateway.run("aliases", "set", "best", MODEL).returncode == 0
    gemini_upstream.script(wire.stream(wire.say("Yes.")), wire.as_json({"totalTokens": 7}))
    client.generate("Hi", model="best", stream=True).body  # noqa: B018
    inner = {"generateContentRequest": {"model": "models/best", "contents": [{"parts": [{"text": "Hi"}]}]}}
    counted = client.post(inner, "/v1beta/models/best:countTokens")
    assert counted.json() == {"totalTokens": 7} and counted.headers["x-floway-token-count"] == "upstream"
    one, two = wire.posts(gemini_upstream)
    assert one.path == f"{STREAM}?alt=sse" and two.path == f"/v1beta/models/{MODEL}:countTokens"
    assert json.loads(two.body)["generateContentRequest"]["model"] == f"models/{MODEL}"


def test_overrides_of_an_alias_translate_the_request(client, gemini_upstream, gemini_gateway):
    assert gemini_gateway.run("aliases", "set", "quick", MODEL, "--effort", "low").returncode == 0
    gemini_upstream.script(wire.stream(wire.think("Hm."), wire.signed(wire.call("f", {"a": 1}), "dGhlaXJz")))
    tools = [{"functionDeclarations": [{"name": "f"}]}]
    config = {"thinkingConfig": {"includeThoughts": True}}
    answer = client.generate("Hi", model="quick", tools=tools, generationConfig=config).json()
    sent = json.loads(wire.posts(gemini_upstream)[0].body)
    assert sent["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "LOW", "includeThoughts": True}
    parts = answer["candidates"][0]["content"]["parts"]
    assert parts[0] == {"text": "Hm.", "thought": True} and thoughts.is_own(parts[1]["thoughtSignature"])
    gemini_upstream.script(wire.stream(wire.say("Done.")))
    result = {"functionResponse": {"name": "f", "id": parts[1]["functionCall"]["id"], "response": {"output": "x"}}}
    history = ["Hi", {"role": "model", "parts": parts}, {"role": "user", "parts": [result]}]
    client.generate(*history, model="quick", tools=tools).json()
    again = json.loads(wire.posts(gemini_upstream)[1].body)["contents"][1]["parts"]
    assert again[-1]["thoughtSignature"] == "dGhlaXJz" and again[-1]["functionCall"]["args"] == {"a": 1}
    refused = client.generate("Hi", model="quick", tools=[{"codeExecution": {}}])
    assert refused.status == 400 and "codeExecution" in refused.json()["error"]["message"]


def test_the_models_of_the_upstream(client, gemini_gateway):
    (listed,) = [model for model in client.get("/v1beta/models").json()["models"] if model["name"] == f"models/{MODEL}"]
    assert listed["displayName"] == "Gemini-3-Test"
    names = [
        model["id"] for model in ApiClient(gemini_gateway.url, gemini_gateway.key).get("/v1/models").json()["data"]
    ]
    assert MODEL in names and "embedder" not in names
