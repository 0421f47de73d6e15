"""Clients of the Messages API through a running gateway, to an upstream that speaks the Responses API."""

import itertools
import json

import pytest
from floway_codex.simulator import function_call, item, reasoning, refusal, reply, text

from .conftest import MODEL, MessagesClient
from .test_events import accumulate

TOOL = {"name": "run", "description": "Runs.", "input_schema": {"type": "object"}}
STREAMS = pytest.mark.parametrize("stream", [False, True])


def message_of(answer, stream):
    """The message, whether it came as a stream or whole."""
    assert answer.status == 200, answer.body
    return accumulate(answer.events()) if stream else answer.json()


@STREAMS
def test_an_answer(client, backend, stream):
    backend.script(reply(reasoning("Hm.", "blob"), text("Hello.", chunks=3), function_call("run", {"a": 1})))
    answer = client.create("Hi", stream=stream, tools=[TOOL], thinking={"type": "adaptive"})
    message = message_of(answer, stream)
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert (message["stop_reason"], message["model"]) == ("tool_use", MODEL)
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert message["id"] == "msg_" + answer.headers["request-id"].replace("-", "")
    (sent,) = backend.dispatches
    assert sent.body["input"][0]["content"] == [{"type": "input_text", "text": "Hi"}]
    assert sent.body["tools"][0]["name"] == "run" and sent.body["reasoning"]["summary"] == "auto"


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_where_the_key_may_be(client, backend, header, codex_gateway):
    del client.headers["x-api-key"]
    client.headers[header] = codex_gateway.key if header == "x-api-key" else f"Bearer {codex_gateway.key}"
    backend.script(reply(text("Hello.")))
    assert client.create("Hi", path="/v1/messages?beta=true").status == 200


def test_paths_without_v1(client, backend):
    """Some clients append only ``/messages`` to their base URL."""
    backend.script(reply(text("Hello.")))
    assert message_of(client.create("Hi", path="/messages"), False)["content"] == [{"type": "text", "text": "Hello."}]
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    counts = [client.post(body, f"{prefix}/messages/count_tokens").json() for prefix in ("/v1", "")]
    assert counts[0] == counts[1] and counts[0]["input_tokens"] > 0
    assert client.create("Hi", path="/messages", max_tokens="many").json()["type"] == "error"


def tool_loop(client, backend, steps, **fields):
    """A client that runs a tool in each step, and sends everything again."""
    history = [{"role": "user", "content": "Begin."}]
    for number in range(steps):
        call = function_call("run", f'{{"step": {number}, "b": "\\u00fc"}}', chunks=2)
        thought = reasoning(f"Step {number}" if number % 2 else None, f"blob-{number}")
        backend.script(reply(thought, text(f"Now {number}."), call) if number < steps - 1 else reply(text("Done.")))
        message = message_of(client.create(*history, stream=True, tools=[TOOL], **fields), True)
        history.append({"role": "assistant", "content": message["content"]})
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": f"Result {number}"}
            for block in message["content"]
            if block["type"] == "tool_use"
        ]
        if results:
            results[-1]["cache_control"] = {"type": "ephemeral"}
            history.append({"role": "user", "content": results})
        for earlier in history[:-1]:
            for block in earlier["content"] if isinstance(earlier["content"], list) else []:
                block.pop("cache_control", None)
    return history


@pytest.mark.parametrize("display", ["summarized", "omitted"])
def test_a_tool_loop_repeats_its_requests_with_the_reasoning(client, backend, display):
    """Also if the client does not get the text of the summaries, so that it cannot send it back."""
    tool_loop(client, backend, 10, thinking={"type": "adaptive", "display": display})
    inputs = [request.body["input"] for request in backend.dispatches]
    assert len(inputs) == 10
    for earlier, later in itertools.pairwise(inputs):
        assert json.dumps(later[: len(earlier)]) == json.dumps(earlier)
    thoughts = [one for one in inputs[-1] if one["type"] == "reasoning"]
    assert [one["encrypted_content"] for one in thoughts] == [f"blob-{number}" for number in range(9)]
    assert [bool(one["summary"]) for one in thoughts] == [number % 2 == 1 for number in range(9)]
    turns = {request.body["client_metadata"]["turn_id"] for request in backend.dispatches}
    assert len(turns) == 1, "each step is recognised as a continuation"
    assert len({request.header("session-id") for request in backend.dispatches}) == 1


def test_a_client_without_thinking_keeps_the_reasoning_too(client, backend):
    """It gets no blocks for it; the gateway puts it back."""
    history = tool_loop(client, backend, 4)
    kinds = {block["type"] for message in history[1::2] for block in message["content"]}
    assert kinds == {"text", "tool_use"}
    inputs = [request.body["input"] for request in backend.dispatches]
    for earlier, later in itertools.pairwise(inputs):
        assert json.dumps(later[: len(earlier)]) == json.dumps(earlier)
    blobs = [one["encrypted_content"] for one in inputs[-1] if one["type"] == "reasoning"]
    assert blobs == [f"blob-{number}" for number in range(3)]


@STREAMS
def test_reasoning_after_the_text_returns_too(client, backend, stream):
    """Claude Code takes the last block for the answer, so the client does not see it."""
    backend.script(reply(reasoning("Hm.", "blob-0"), text("Hello."), reasoning(None, "blob-1")), reply(text("Again.")))
    thinking = {"type": "adaptive"}
    message = message_of(client.create("Hi", thinking=thinking, stream=stream), stream)
    assert [block["type"] for block in message["content"]] == ["thinking", "text"]
    history = {"role": "assistant", "content": message["content"]}
    message_of(client.create("Hi", history, "And?", thinking=thinking, stream=stream), stream)
    sent = backend.dispatches[1].body["input"]
    assert [one["encrypted_content"] for one in sent if one["type"] == "reasoning"] == ["blob-0", "blob-1"]


def test_sessions_follow_the_clients(codex_gateway, backend):
    backend.script(*[reply(text("Hello."))] * 5)
    ids = [
        {"x-claude-code-session-id": "one"},
        {"x-claude-code-session-id": "two"},
        {"x-claude-code-session-id": "one"},
    ]
    for headers in ids:
        assert MessagesClient(codex_gateway, **headers).create("Hi").status == 200
    for session in ("one", "three"):
        user = json.dumps({"device_id": "d", "session_id": session})
        assert MessagesClient(codex_gateway).create("Hi", metadata={"user_id": user}).status == 200
    first, second, third, fourth, fifth = (request.header("session-id") for request in backend.dispatches)
    assert first == third == fourth and len({first, second, fifth}) == 3


def test_reasoning_that_the_backend_cannot_read_is_left_out(client, backend):
    history = tool_loop(client, backend, 2, thinking={"type": "adaptive"})
    error = {"message": "The encrypted content could not be verified.", "code": "invalid_encrypted_content"}
    backend.clear()
    backend.script(refusal(400, {"error": {**error, "type": "invalid_request_error"}}), reply(text("Well.")))
    assert client.create(*history, "Go on", tools=[TOOL]).status == 200
    first, second = ([one["type"] for one in request.body["input"]] for request in backend.dispatches)
    assert "reasoning" in first and [kind for kind in first if kind != "reasoning"] == second


@STREAMS
def test_a_web_search(client, backend, stream):
    annotation = {"type": "url_citation", "url": "https://a.example/", "title": "A", "start_index": 0, "end_index": 4}
    part = {"type": "output_text", "text": "Text.", "annotations": [annotation], "logprobs": []}
    search = {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "floway", "sources": [{"type": "url", "url": "https://a.example/"}]},
    }
    answered = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    backend.script(reply(item(search), item(answered)))
    tool = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    choice = {"type": "tool", "name": "web_search"}
    message = message_of(client.create("Search", stream=stream, tools=[tool], tool_choice=choice), stream)
    (results,) = (block["content"] for block in message["content"] if block["type"] == "web_search_tool_result")
    assert [(one["title"], one["url"]) for one in results] == [("A", "https://a.example/")]
    (sent,) = backend.dispatches
    assert sent.body["tools"] == [{"type": "web_search"}]
    assert "web_search_call.action.sources" in sent.body["include"]
    backend.script(reply(text("Yes.")))
    assert client.create("Search", {"role": "assistant", "content": message["content"]}, "And?").status == 200
    assert backend.dispatches[-1].body["input"][1]["id"] == "ws_1"


# -------------------------------------------------------------------------------------------------------------- errors
def check_error(answer, status, kind, says=""):
    content = answer.json()
    assert (answer.status, content["type"], content["error"]["type"]) == (status, "error", kind), content
    assert says in content["error"]["message"]
    assert content["request_id"] == answer.headers["request-id"]


def test_refusals(client, backend, codex_gateway):
    check_error(client.create("Hi", max_tokens="x"), 400, "invalid_request_error", "max_tokens: ")
    check_error(
        client.create("Hi", {"role": "user", "content": [{"type": "x"}]}), 400, "invalid_request_error", "messages[1]"
    )
    check_error(client.create("Hi", mcp_servers=[{"url": "x"}]), 400, "invalid_request_error", "mcp_servers")
    check_error(client.create("Hi", model="none"), 404, "not_found_error", "none")
    check_error(client.post(b"{", "/v1/messages"), 400, "invalid_request_error")
    check_error(client.get("/v1/messages"), 405, "invalid_request_error")
    check_error(client.get("/v1/messages/batches"), 404, "not_found_error")
    client.headers["x-api-key"] = "wrong"
    check_error(client.create("Hi"), 401, "authentication_error")
    check_error(client.get("/v1/models"), 401, "authentication_error")


def test_a_thread_is_refused_so_that_sdks_send_everything(client):
    answer = client.create("Hi", thread={"type": "create"})
    check_error(answer, 400, "invalid_request_error")
    details = {"error_code": "thread_unsupported_request", "unsupported": []}
    assert answer.json()["error"]["details"] == details


@STREAMS
def test_what_an_upstream_refuses(client, backend, stream):
    backend.script(refusal(400, {"detail": "The weather is not supported."}))
    check_error(client.create("Hi", stream=stream), 400, "invalid_request_error", "The weather")
    limit = {"error": {"type": "usage_limit_reached", "message": "Enough.", "resets_in_seconds": 60}}
    backend.script(refusal(429, limit))
    answer = client.create("Hi", stream=stream)
    check_error(answer, 429, "rate_limit_error", "Enough.")


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (reply(text("Half an answer"), cut_after=4), "api_error"),
        (reply(text("Half"), fail={"code": "rate_limit_exceeded", "message": "Slow down."}), "rate_limit_error"),
    ],
)
def test_a_stream_that_breaks_ends_in_an_error_event(client, backend, script, kind):
    backend.script(script)
    events = client.create("Hi", stream=True).events()
    assert events[0]["type"] == "message_start"
    assert (events[-1]["type"], events[-1]["error"]["type"]) == ("error", kind)
    assert [one["type"] for one in events].count("error") == 1


# -------------------------------------------------------------------------------------------------------------- models
def test_models(client, codex_gateway):
    page = client.get("/v1/models?limit=1").json()
    assert [sorted(page), len(page["data"]), page["has_more"]] == [["data", "first_id", "has_more", "last_id"], 1, True]
    ids = [page["first_id"]]
    while page["has_more"]:
        page = client.get(f"/v1/models?limit=2&after_id={ids[-1]}").json()
        ids += [model["id"] for model in page["data"]]
    everything = client.get("/v1/models?limit=1000").json()
    assert ids == [model["id"] for model in everything["data"]] and MODEL in ids
    back = client.get(f"/v1/models?limit=1&before_id={ids[-1]}").json()
    assert (back["first_id"], back["has_more"]) == (ids[-2], True)
    assert client.get(f"/v1/models/{MODEL}").json()["type"] == "model"
    check_error(client.get("/v1/models/none"), 404, "not_found_error")
    check_error(client.get("/v1/models?limit=0"), 400, "invalid_request_error", "limit")
    others = client.get("/v1/models", anthropic_version=None, authorization=f"Bearer {codex_gateway.key}").json()
    assert others["object"] == "list", "without anthropic-version it is OpenAI's list"


def test_the_root(client):
    assert client.send("HEAD", "/").status == 200
    assert client.get("/").status == 200


def test_counting_tokens(client):
    def count(*messages, **fields):
        answer = client.create(*messages, path="/v1/messages/count_tokens?beta=true", **fields)
        assert answer.status == 200, answer.body
        return answer.json()["input_tokens"]

    short, long = count("Hi"), count("Hi " * 500)
    assert 3 < short < 20 and 400 < long < 1200
    assert count("Hi", tools=[TOOL]) > short + 5
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}}
    assert count({"role": "user", "content": [image]}) > 1000
