"""Clients of the Messages API on an upstream that speaks Chat Completions; the real Claude Code among them."""

import json
import os

import pytest

from floway_core.testing import FakeUpstream, Reply, RunningGateway, Step

from .conftest import MessagesClient
from .test_claude_code import ClaudeCode
from .test_door import STREAMS, check_error, message_of
from .wire import JSON, as_json, split

MODEL = "local-model"
TOOL = {"name": "run", "description": "Runs.", "input_schema": {"type": "object"}}

claude_code = pytest.mark.skipif(
    not os.environ.get("FLOWAY_TEST_CLAUDE_CODE"),
    reason="FLOWAY_TEST_CLAUDE_CODE is not set: `make test-clients` installs Claude Code",
)


def chunk(delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: %s\n\n" % json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode()


def chat_stream(text="", reasoning="", calls=(), finish=None):
    """The chunks of a chat server: reasoning, text, calls of tools (id, name, arguments), usage."""
    chunks = [chunk({"role": "assistant", "reasoning_content": piece}) for piece in split(reasoning, 2)]
    chunks += [chunk({"content": piece}) for piece in split(text, 2)]
    for index, (call_id, name, arguments) in enumerate(calls):
        begun = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
        chunks.append(chunk({"tool_calls": [begun]}))
        pieces = split(json.dumps(arguments), 3)
        chunks += [chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}) for piece in pieces]
    chunks.append(chunk({}, finish or ("tool_calls" if calls else "stop")))
    usage = {"prompt_tokens": 30, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 20}}
    chunks.append(b"data: %s\n\n" % json.dumps({"id": "c", "choices": [], "usage": usage}).encode())
    return [*chunks, b"data: [DONE]\n\n"]


@pytest.fixture(scope="module")
def chat_server():
    with FakeUpstream() as running:
        running.answer_always("/v1/models", as_json({"object": "list", "data": [{"id": MODEL}]}))
        yield running


@pytest.fixture(scope="module")
def chat_gateway(chat_server):
    with RunningGateway(installed=["anthropic", "chat"]) as gateway:
        gateway.add_upstream("chat", "local", f"{chat_server.url}/v1")
        yield gateway


@pytest.fixture
def server(chat_server):
    chat_server.forget()
    return chat_server


@pytest.fixture
def client(chat_gateway, server):
    return MessagesClient(chat_gateway)


def requests_of(server):
    return [json.loads(request.body) for request in server.requests if request.method == "POST"]


@STREAMS
def test_text_thinking_and_a_tool(client, server, stream):
    server.script(Reply(chat_stream("I run it.", "Let me see.", [("call_1", "run", {"a": 1})])))
    thinking = {"type": "adaptive"}
    asked = {"model": MODEL, "stream": stream, "tools": [TOOL], "system": "Be brief.", "thinking": thinking}
    message = message_of(client.create("Hi", **asked), stream)
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert message["content"][0]["thinking"] == "Let me see." and message["content"][2]["input"] == {"a": 1}
    assert message["stop_reason"] == "tool_use"
    assert (message["usage"]["input_tokens"], message["usage"]["cache_read_input_tokens"]) == (10, 20)
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "42"}
    history = [{"role": "assistant", "content": message["content"]}, {"role": "user", "content": [result]}]
    server.script(Reply(chat_stream("Done.")))
    assert message_of(client.create("Hi", *history, **asked), stream)["content"][0]["text"] == "Done."
    sent = requests_of(server)[-1]["messages"]
    assert [one["role"] for one in sent] == ["system", "user", "assistant", "tool"]
    assert sent[2]["tool_calls"][0]["function"]["name"] == "run" and sent[3]["content"] == "42"


def test_an_answer_that_is_cut_off(client, server):
    server.script(Reply(chat_stream("Half", finish="length")))
    assert client.create("Hi", model=MODEL).json()["stop_reason"] == "max_tokens"


@STREAMS
def test_a_web_search_is_refused_clearly(client, server, stream):
    tool = {"type": "web_search_20250305", "name": "web_search"}
    answer = client.create("Search", model=MODEL, stream=stream, tools=[tool])
    check_error(answer, 400, "invalid_request_error", "web_search")
    assert requests_of(server) == []


def test_errors(client, server):
    error = {"error": {"message": "Slow down.", "type": "rate_limit_error", "code": "rate_limit"}}
    server.script(Reply([json.dumps(error).encode()], 429, [*JSON, ("retry-after", "3")]))
    answer = client.create("Hi", model=MODEL)
    check_error(answer, 429, "rate_limit_error", "Slow down.")
    assert answer.headers["retry-after"] == "3"


# --------------------------------------------------------------------------------------------------------- Claude Code
@pytest.fixture
def claude(chat_gateway, server, tmp_path):
    return ClaudeCode(chat_gateway, tmp_path / "home", model=MODEL)


@claude_code
def test_claude_code_runs_a_tool(claude, server):
    shell = {"command": "echo from-$((40 + 2))", "description": "Echo"}
    server.script(
        Reply(chat_stream("", "Hm.", [("call_1", "Bash", shell)])), Reply(chat_stream("The command is done."))
    )
    assert claude("run it").stdout.strip() == "The command is done."
    assert "from-42" in json.dumps(requests_of(server)[-1]["messages"][-1])


@claude_code
def test_claude_code_edits_a_file_and_resumes(claude, server):
    file = claude.work / "notes.txt"
    file.write_text("one\n")
    edit = {"file_path": str(file), "old_string": "one", "new_string": "two"}
    server.script(
        Reply(chat_stream(calls=[("call_1", "Read", {"file_path": str(file)})])),
        Reply(chat_stream(calls=[("call_2", "Edit", edit)])),
        Reply(chat_stream("Edited.")),
        Reply(chat_stream("Again.")),
    )
    first = json.loads(claude("--output-format", "json", "edit it").stdout)
    assert first["result"] == "Edited." and file.read_text() == "two\n"
    assert claude("--resume", first["session_id"], "go on").stdout.strip() == "Again."
    assert "Edited." in json.dumps(requests_of(server)[-1]["messages"])


@claude_code
def test_claude_code_is_told_that_there_is_no_web_search(claude, server):
    server.script(
        Reply(chat_stream(calls=[("call_1", "WebSearch", {"query": "floway"})])), Reply(chat_stream("No search then."))
    )
    assert claude("search").stdout.strip() == "No search then."
    assert "web_search" in json.dumps(requests_of(server)[-1]["messages"][-1])


@claude_code
def test_claude_code_tries_a_cut_stream_again(claude, server):
    server.script(Reply([*chat_stream("half an answer")[:1], Step.CUT]), Reply(chat_stream("A whole answer.")))
    assert claude("hello").stdout.strip() == "A whole answer."
