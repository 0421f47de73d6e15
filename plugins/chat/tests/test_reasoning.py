"""Reasoning that chat clients drop returns to its place: against the simulated Codex backend."""

import json
import tempfile

import pytest
from floway_codex.simulator import OutputItem, function_call, reasoning, reply, text

from floway_core.storage.db import connect

from .chunks import join
from .conftest import ChatClient

MODEL = "gpt-5.5"
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


@pytest.fixture
def agent(running):
    return Agent(running)


class Agent:
    """A plain chat client with a tool: it keeps what OpenAI's API has, and nothing else."""

    def __init__(self, gateway, key=None, stream=False):
        self.client = ChatClient(gateway.url, key or gateway.key)
        self.stream = stream
        self.messages = []
        self.last_id = ""

    def ask(self, *messages, **fields):
        """Send the conversation with these messages added, and keep the answer."""
        self.messages += messages
        answer = self.client.chat(self.messages, model=MODEL, tools=TOOLS, stream=self.stream, **fields)
        assert answer.status == 200, answer.body
        if self.stream:
            told = join(answer.body)
            content, calls = (
                told["content"],
                [(call["id"], call["name"], call["arguments"]) for call in told["calls"].values()],
            )
        else:
            body = answer.json()
            self.last_id = body["id"]
            content = body["choices"][0]["message"]["content"]
            calls = [
                (call["id"], call["function"]["name"], call["function"]["arguments"])
                for call in body["choices"][0]["message"].get("tool_calls", ())
            ]
        # Clients parse arguments and write them in their own way, and strip texts.
        tool_calls = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(json.loads(arguments))}}
            for id, name, arguments in calls
        ]
        content = content.strip() if content else None
        message = {"role": "assistant", "content": content, **({"tool_calls": tool_calls} if calls else {})}
        self.messages.append(message)
        return [id for id, _, _ in calls]

    def say(self, content, **fields):
        return self.ask({"role": "user", "content": content}, **fields)

    def give(self, call_ids, output="done", **fields):
        return self.ask(*({"role": "tool", "tool_call_id": id, "content": output} for id in call_ids), **fields)


def thinks(number, *items):
    """A reply with reasoning that the number identifies."""
    return reply(reasoning(f"Thought {number}.", f"BLOB-{number}"), *items)


def call(number):
    return function_call("look", {"at": number})


def inputs(backend):
    return [request.body["input"] for request in backend.dispatches]


def blobs(items):
    return [item["encrypted_content"] for item in items if item["type"] == "reasoning"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_loop_keeps_its_reasoning_and_its_prefix(backend, running, stream):
    steps, agent, calls = 10, Agent(running, stream=stream), []
    agent.messages = [{"role": "system", "content": "Look around."}]
    for number in range(steps):
        items = [text(f" Step {number}. "), text("More."), call(number), call(-number)]
        backend.script(thinks(number, *items[number % 2 :]))
        calls = agent.say(f"Begin ({stream}).") if number == 0 else agent.give(calls, f"out {number}")
    sent = inputs(backend)
    assert len(sent) == steps
    for number in range(1, steps):
        before, after = (json.dumps(items) for items in (sent[number - 1], sent[number]))
        assert after.startswith(before.removesuffix("]") + ", "), "the prefix has changed"
        assert blobs(sent[number]) == [f"BLOB-{earlier}" for earlier in range(number)]
        kinds = [item["type"] for item in sent[number][len(sent[number - 1]) :]]
        assert kinds[0] == "reasoning"
        assert kinds[-4:] == ["function_call"] * 2 + ["function_call_output"] * 2
    assert len({request.header("session-id") for request in backend.dispatches}) == 1
    assert len({request.body["prompt_cache_key"] for request in backend.dispatches}) == 1


def test_the_reasoning_of_a_text_returns_too(backend, agent):
    backend.script(thinks(1, text("Paris.")), thinks(2, text("Rome.")), reply(text("Bye.")))
    agent.say("Capital of France? (text)")
    agent.say("Of Italy?")
    agent.say("Bye.")
    assert [blobs(items) for items in inputs(backend)] == [[], ["BLOB-1"], ["BLOB-1", "BLOB-2"]]


def test_not_if_the_client_does_not_store(backend, agent):
    backend.script(thinks(1, call(1)), reply(text("Done.")))
    agent.give(agent.say("No store.", store=False), store=False)
    assert blobs(inputs(backend)[-1]) == []


def test_not_if_only_the_first_request_was_not_stored(backend, agent):
    backend.script(thinks(1, call(1)), reply(text("Done.")))
    agent.give(agent.say("No store at first.", store=False))
    assert blobs(inputs(backend)[-1]) == []


def test_not_if_it_is_switched_off(backend, start_with_codex):
    with start_with_codex("chat", chat_restore_reasoning="off") as gateway:
        agent = Agent(gateway)
        backend.script(thinks(1, call(1)), reply(text("Done.")))
        agent.give(agent.say("Off."))
    assert blobs(inputs(backend)[-1]) == []


def test_not_for_another_key(backend, running):
    agent = Agent(running)
    backend.script(thinks(1, call(1)), reply(text("Done.")), reply(text("Done.")))
    calls = agent.say("Whose is it?")
    key = running.run("keys", "create", "other").stdout.strip()
    other = Agent(running, key)
    other.messages = list(agent.messages)
    other.give(calls)
    agent.give(calls)
    assert [blobs(items) for items in inputs(backend)] == [[], [], ["BLOB-1"]]


@pytest.mark.parametrize("call_id", ["call_0", "call_abcdefghijklmnopqrstuvwx"])
def test_not_in_another_conversation_with_the_same_call(backend, running, call_id):
    first, second = Agent(running), Agent(running)
    item = OutputItem({**function_call("look", "{}").body, "call_id": call_id})
    backend.script(thinks(1, item), reply(item), reply(text("Done.")))
    first.say(f"One conversation ({call_id}).")
    second.give(second.say(f"Another conversation ({call_id})."))
    assert blobs(inputs(backend)[-1]) == []


def test_not_under_other_instructions_with_ids_that_are_not_unique(backend, running):
    first, second = Agent(running), Agent(running)
    first.messages, second.messages = ([{"role": "system", "content": name}] for name in ("A", "B"))
    item = OutputItem({**function_call("look", "{}").body, "call_id": "call_1"})
    backend.script(thinks(1, item), reply(item), reply(text("Done.")))
    first.say("The same question.")
    second.give(second.say("The same question."))
    assert blobs(inputs(backend)[-1]) == []


def test_a_client_that_changes_what_went_before(backend, agent):
    agent.messages = [{"role": "system", "content": "It is ten o'clock."}]
    backend.script(thinks(1, call(1)), thinks(2, call(2)), thinks(3, call(3)), reply(text("Done.")))
    calls = agent.say("Watch the clock.")
    calls = agent.give(calls, "a long output")
    agent.messages[0] = {"role": "system", "content": "It is eleven o'clock."}
    agent.messages[3]["content"] = "[cleared]"
    calls = agent.give(calls)
    agent.give(calls)
    sent = inputs(backend)
    assert [blobs(items) for items in sent[1:]] == [["BLOB-1"], ["BLOB-1", "BLOB-2"], ["BLOB-1", "BLOB-2", "BLOB-3"]]
    assert "[cleared]" in json.dumps(sent[2]) and "eleven" in json.dumps(sent[2][0])
    assert sent[3][: len(sent[2])] == sent[2]


def test_a_client_that_changes_what_is_between_two_turns(backend, agent):
    """What comes before the change is found as a whole, the turn after it by its calls."""
    backend.script(thinks(1, text("Paris.")), thinks(2, call(2)), reply(text("Done.")))
    agent.say("Capital of France? (between)")
    calls = agent.say("Look at it.")
    agent.messages[2]["content"] = "Look at it, please."
    agent.give(calls)
    sent = inputs(backend)[-1]
    assert blobs(sent) == ["BLOB-1", "BLOB-2"]
    assert [item["type"] for item in sent[-3:]] == ["reasoning", "function_call", "function_call_output"]


def test_a_client_that_keeps_the_reasoning_itself(backend, running):
    client = ChatClient(running.url, running.key)
    backend.script(thinks(1, text("Paris.")), reply(text("Rome.")))
    messages = [{"role": "user", "content": "I keep it."}]
    message = client.chat(messages, model=MODEL, store=False).json()["choices"][0]["message"]
    assert message["reasoning_content"] == "Thought 1."
    messages += [message, {"role": "user", "content": "And Italy?"}]
    assert client.chat(messages, model=MODEL, store=False).status == 200
    assert blobs(inputs(backend)[-1]) == ["BLOB-1"]


def test_not_after_the_response_has_been_deleted(backend, agent):
    backend.script(thinks(1, call(1)), reply(text("Done.")))
    calls = agent.say("Delete me.")
    response_id = agent.last_id.replace("chatcmpl-", "resp_")
    assert agent.client.send("DELETE", f"/v1/responses/{response_id}").status == 200
    agent.give(calls)
    assert blobs(inputs(backend)[-1]) == []


def test_not_after_the_conversation_has_expired(backend, running, agent):
    backend.script(thinks(1, call(1)), reply(text("Done.")))
    calls = agent.say("Forget me.")
    database = connect(f"sqlite:///{running.database}")
    with database.connection_context():
        database.execute_sql("UPDATE responses_conversations SET used_at = 5")
    database.close_all()
    agent.give(calls)
    assert blobs(inputs(backend)[-1]) == []


def test_a_fork_gets_the_reasoning_of_its_branch(backend, running):
    first = Agent(running)
    backend.script(
        thinks(1, call(1)), thinks(2, text("A.")), thinks(3, text("B.")), reply(text("C.")), reply(text("D."))
    )
    calls = first.say("Fork me.")
    second = Agent(running)
    second.messages = list(first.messages)
    first.give(calls, "one")
    second.give(calls, "two")
    first.say("Go on.")
    second.say("Go on.")
    assert [blobs(items) for items in inputs(backend)[-2:]] == [["BLOB-1", "BLOB-2"], ["BLOB-1", "BLOB-3"]]


def test_what_is_stored_does_not_grow_with_the_conversation(backend, running, agent):
    backend.script(*(thinks(number, call(number)) for number in range(6)))
    calls = agent.say("Grow.")
    for _ in range(5):
        calls = agent.give(calls)
    database = connect(f"sqlite:///{running.database}")
    with database.connection_context():
        cursor = database.execute_sql(
            "SELECT COUNT(*) FROM responses_items GROUP BY snapshot_id ORDER BY snapshot_id DESC LIMIT 5"
        )
        assert {count for (count,) in cursor.fetchall()} == {3}  # an output of the tool, reasoning and a call
    database.close_all()


def test_on_postgresql(backend, start_with_codex):
    """The lookups are SQL, and the schema is another one there."""
    pgserver = pytest.importorskip("pgserver", reason="there is no pgserver")
    with tempfile.TemporaryDirectory(prefix="floway-pg-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(folder)
        try:
            with start_with_codex("chat", database_url=server.get_uri()) as gateway:
                agent = Agent(gateway)
                agent.messages = [{"role": "system", "content": "It is ten o'clock."}]
                backend.script(thinks(1, call(1)), thinks(2, call(2)), reply(text("Done.")))
                calls = agent.give(agent.say("Look."))
                agent.messages[0]["content"] = "It is eleven o'clock."
                agent.give(calls)
        finally:
            server.cleanup()
    assert [blobs(items) for items in inputs(backend)] == [[], ["BLOB-1"], ["BLOB-1", "BLOB-2"]]


@pytest.mark.parametrize(
    ("fields", "other", "is_same"),
    [
        ({"metadata": {"conversation_id": "a"}}, {"metadata": {"conversation_id": "a", "run": "2"}}, True),
        ({"metadata": {"conversation_id": "a"}}, {"metadata": {"conversation_id": "b"}}, False),
        ({"metadata": {"thread_id": "a"}}, {"metadata": {"chat_id": "b"}}, False),
        ({"user": "a", "metadata": {"user_id": "a"}}, {"user": "b", "metadata": {"user_id": "b"}}, True),
    ],
)
def test_the_session_follows_the_conversation_that_a_client_names(running, backend, fields, other, is_same):
    """Two conversations begin alike; without a name they have one session."""
    for named in (fields, other):
        backend.script(reply(text("Hello.")))
        Agent(running).say(f"Hi, {fields}", **named)
    one, two = (request.header("session-id") for request in backend.dispatches)
    assert one and (one == two) is is_same
