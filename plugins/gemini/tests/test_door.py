"""Clients of the generateContent API through a running gateway, to an upstream that speaks the Responses API."""

import itertools
import json

import pytest
from floway_codex.simulator import function_call, reasoning, refusal, reply, text

from floway_core.testing import ApiClient, events

from .conftest import MODEL, GeminiClient

TOOLS = [{"functionDeclarations": [{"name": "run", "description": "Runs.", "parameters": {"type": "OBJECT"}}]}]
WAYS = pytest.mark.parametrize("way", ["whole", "events", "array"])


def parts_of(answer, way):
    """The parts of an answer, and its last piece."""
    assert answer.status == 200, answer.body
    pieces = answer.events() if way == "events" else answer.json() if way == "array" else [answer.json()]
    return [part for piece in pieces for part in piece["candidates"][0]["content"]["parts"]], pieces[-1]


def generate(client, way, *contents, **fields):
    alt = "sse" if way == "events" else ""
    return client.generate(*contents, stream=way != "whole", alt=alt, **fields)


@WAYS
@pytest.mark.parametrize("version", ["v1beta", "v1"])
def test_an_answer(client, backend, way, version):
    backend.script(reply(reasoning("Hm.", "blob"), text("Hello.", chunks=3), function_call("run", {"a": 1})))
    config = {"thinkingConfig": {"includeThoughts": True}}
    answer = generate(client, way, "Hi", version=version, tools=TOOLS, generationConfig=config)
    parts, last = parts_of(answer, way)
    assert parts[0] == {"text": "Hm.", "thought": True} and "thoughtSignature" in parts[1]
    assert "".join(part.get("text", "") for part in parts[1:]) == "Hello."
    assert [part["functionCall"]["args"] for part in parts if "functionCall" in part] == [{"a": 1}]
    assert last["candidates"][0]["finishReason"] == "STOP" and last["modelVersion"] == MODEL
    assert last["responseId"] == answer.headers["x-request-id"].replace("-", "")
    assert last["usageMetadata"]["thoughtsTokenCount"] > 0
    media_type = {"whole": "application/json", "events": "text/event-stream", "array": "application/json"}[way]
    assert answer.headers.get_content_type() == media_type
    (sent,) = backend.dispatches
    assert sent.body["input"][-1]["content"] == [{"type": "input_text", "text": "Hi"}]


@WAYS
def test_a_tool_loop_repeats_its_requests_with_the_reasoning(client, backend, way):
    history = [{"role": "user", "parts": [{"text": "Begin."}]}]
    for number in range(6):
        call = function_call("run", f'{{"step": {number}, "b": "\\u00fc"}}', chunks=2)
        thought = reasoning(f"Step {number}" if number % 2 else None, f"blob-{number}")
        backend.script(reply(thought, text(f"Now {number}."), call) if number < 5 else reply(text("Done.")))
        parts, _ = parts_of(generate(client, way, *history, tools=TOOLS), way)
        history.append({"role": "model", "parts": parts})
        calls = [part["functionCall"] for part in parts if "functionCall" in part]
        results = [{"name": "run", "id": one["id"], "response": {"output": f"Result {number}"}} for one in calls]
        history.append({"role": "user", "parts": [{"functionResponse": one} for one in results]})
    inputs = [request.body["input"] for request in backend.dispatches]
    for earlier, later in itertools.pairwise(inputs):
        assert json.dumps(later[: len(earlier)]) == json.dumps(earlier)
    blobs = [one["encrypted_content"] for one in inputs[-1] if one["type"] == "reasoning"]
    assert blobs == [f"blob-{number}" for number in range(5)]
    assert len({request.body["client_metadata"]["turn_id"] for request in backend.dispatches}) == 1


def test_a_client_that_drops_signatures_keeps_its_reasoning_too(client, backend):
    backend.script(reply(reasoning(None, "blob"), function_call("run", {"a": 1})), reply(text("Done.")))
    parts, _ = parts_of(client.generate("Hi", tools=TOOLS), "whole")
    call = parts[0]["functionCall"]
    result = {"functionResponse": {"name": "run", "id": call["id"], "response": {"output": "x"}}}
    history = ["Hi", {"role": "model", "parts": [{"functionCall": call}]}, {"role": "user", "parts": [result]}]
    assert client.generate(*history, tools=TOOLS).status == 200
    kinds = [item["type"] for item in backend.dispatches[-1].body["input"] if item.get("role") != "developer"]
    assert kinds == ["message", "reasoning", "function_call", "function_call_output"]


# ---------------------------------------------------------------------------------------------------------------- keys
@pytest.mark.parametrize("place", ["header", "query", "bearer"])
def test_where_the_key_may_be(codex_gateway, backend, place):
    backend.script(reply(text("Hello.")))
    client = ApiClient(codex_gateway.url, codex_gateway.key)
    headers = {"authorization": None} if place != "bearer" else {}
    headers |= {"x-goog-api-key": codex_gateway.key} if place == "header" else {}
    query = f"?key={codex_gateway.key}" if place == "query" else ""
    headers["referer"] = f"{codex_gateway.url}/v1beta/models/{query}"
    body = json.dumps({"contents": [{"parts": [{"text": "Hi"}]}]}).encode()
    answer = client.send("POST", f"/v1beta/models/{MODEL}:generateContent{query}", body, headers)
    assert answer.status == 200, answer.body
    for path in (
        f"/v1beta/nothing{query}",
        f"/v1beta/models/none{query}",
        f"/v1beta/models/none:generateContent{query}",
    ):
        refused = client.send(
            "POST" if "generate" in path else "GET", path, body if "generate" in path else None, headers
        )
        assert refused.status == 404 and codex_gateway.key.encode() not in refused.body
    raw = json.dumps([vars(request) for request in backend.requests], default=str)
    assert codex_gateway.key not in codex_gateway.log and codex_gateway.key not in raw


# -------------------------------------------------------------------------------------------------------------- models
def test_one_path_has_the_models_of_each_api(codex_gateway):
    openai = ApiClient(codex_gateway.url, codex_gateway.key)
    gemini = GeminiClient(codex_gateway)
    assert openai.get("/v1/models").json()["object"] == "list"
    assert gemini.get("/v1/models").json()["models"][0]["name"].startswith("models/")
    assert gemini.get(f"/v1/models/{MODEL}").json()["name"] == f"models/{MODEL}"
    assert openai.get(f"/v1/models/{MODEL}").json()["object"] == "model"
    assert openai.get("/v1beta/models").json()["models"], "the path is of one API only"


def test_pages_of_models(client):
    names, token = [], ""
    while token is not None:
        page = client.get(f"/v1beta/models?pageSize=2&pageToken={token}").json()
        names += [model["name"] for model in page["models"]]
        token = page.get("nextPageToken")
        assert len(page["models"]) <= 2
    assert names == [model["name"] for model in client.get("/v1beta/models").json()["models"]]
    for query, field in (("pageSize=x", "page_size"), ("pageToken=none", "page_token")):
        refused = client.get(f"/v1beta/models?{query}")
        assert refused.status == 400 and field in refused.json()["error"]["message"]


# -------------------------------------------------------------------------------------------------------------- errors
def test_a_field_at_fault_is_named(client, backend):
    refused = client.generate("Hi", generationConfig={"topP": "much"})
    error = refused.json()["error"]
    assert (refused.status, error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["message"] == "Invalid value at 'generation_config.top_p' (TYPE_FLOAT), \"much\""
    (detail,) = error["details"]
    assert detail["@type"].endswith("google.rpc.BadRequest")
    assert detail["fieldViolations"][0]["field"] == "generation_config.top_p"
    assert backend.dispatches == []


@pytest.mark.parametrize(("seconds", "told"), [(9, "9s"), (7200, "7200s")])
def test_how_long_to_wait_is_told(client, backend, seconds, told):
    body = {"error": {"type": "usage_limit_reached", "message": "Enough.", "resets_in_seconds": seconds}}
    backend.script(refusal(429, body))
    refused = client.generate("Hi", stream=True)
    assert refused.status == 429 and refused.headers["retry-after"] == str(seconds)
    assert refused.json()["error"] == {
        "code": 429,
        "message": "Enough.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": told}],
    }


def test_a_stream_that_breaks_ends_with_an_error(client, backend):
    backend.script(*[reply(text("Half an answer", chunks=4), cut_after=5)] * 2)
    body = client.generate("Hi", stream=True).body
    last = body.rpartition(b"\n\n")[2]
    assert json.loads(last)["error"]["status"] == "UNAVAILABLE"
    pieces = client.generate("Hi", stream=True, alt="").json()
    assert pieces[-1]["error"]["status"] == "UNAVAILABLE"


def test_the_error_is_an_event_for_clients_with_a_reader_of_events(client, backend):
    """The AI SDK skips what is no event, and takes a broken stream for a complete one."""
    del client.headers["x-goog-api-client"]
    client.headers["user-agent"] = "ai/6.0.326 ai-sdk/google/3.0.141"
    backend.script(reply(text("Half an answer", chunks=4), cut_after=5))
    last = events.parse(client.generate("Hi", stream=True).body)[-1]
    assert last["error"]["status"] == "UNAVAILABLE"


def test_other_methods_and_paths_are_refused_in_googles_form(client):
    for method, path, status in (
        ("PUT", f"/v1beta/models/{MODEL}:generateContent", 405),
        ("PUT", f"/v1/models/{MODEL}:generateContent", 405),
        ("GET", "/v1beta/cachedContents", 404),
        ("GET", "/v1beta/models/none", 404),
    ):
        refused = client.send(method, path)
        assert refused.status == status and set(refused.json()["error"]) >= {"code", "message", "status"}, path


def test_counting(client, backend):
    counts = [
        client.post(body, f"/v1beta/models/{MODEL}:countTokens").json()["totalTokens"]
        for text in ("Hi", "Hi there " * 100)
        for body in (
            {"contents": [{"parts": [{"text": text}]}]},
            {"generateContentRequest": {"model": f"models/{MODEL}", "contents": [{"parts": [{"text": text}]}]}},
        )
    ]
    assert 0 < counts[0] == counts[1] < counts[2] == counts[3] and backend.dispatches == []
