"""The openai package leads a conversation of 30 turns with tools, forks it, and compacts it."""

import json

import openai
import pytest

from floway_core.testing import Reply, items_stream

from .direct_store import assistant, user

TOOL = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
SEALED = {"id": "cmp_1", "type": "compaction", "encrypted_content": "sealed"}


class Conversation:
    """Leads a conversation by id, and knows what every upstream request has to hold."""

    def __init__(self, api, upstream, expected=(), previous=None):
        self.api, self.upstream = api, upstream
        self.expected, self.previous = list(expected), previous

    def forked(self):
        return Conversation(self.api, self.upstream, self.expected, self.previous)

    def turn(self, given, output, stream=False):
        self.upstream.script(Reply(items_stream(output, empty_output=stream)))
        asked = {"model": "model-1", "input": given, "tools": [TOOL]}
        if self.previous:
            asked["previous_response_id"] = self.previous
        if stream:
            with self.api.responses.stream(**asked) as told:
                answer = told.until_done().get_final_response()
        else:
            answer = self.api.responses.create(**asked)
        self.expected += [user(given)] if isinstance(given, str) else given
        assert self.sent() == self.expected
        assert [item.id for item in answer.output] == [item["id"] for item in output]
        self.expected += output
        self.previous = answer.id
        return answer

    def sent(self):
        return json.loads(self.upstream.requests[-1].body)["input"]


def call(number):
    arguments = json.dumps({"a": number, "b": number})
    return {
        "type": "function_call",
        "id": f"fc_{number}",
        "call_id": f"call_{number}",
        "name": "add",
        "arguments": arguments,
        "status": "completed",
    }


@pytest.fixture
def conversation(acting, client, fake_upstream, openai_package):
    key = client.caller.headers["authorization"].removeprefix("Bearer ")
    api = openai_package(acting.gateway.url, key, {"x-test-upstream": fake_upstream.url})
    return Conversation(api, fake_upstream)


def led(conversation, turns):
    """Lead the conversation on: every third turn calls a tool, every second is streamed."""
    for number in turns:
        if number % 3 == 1:
            answer = conversation.turn(
                f"Question {number}", [assistant(f"wait {number}"), call(number)], number % 2 == 0
            )
            asked = answer.output[1]
            assert (asked.name, json.loads(asked.arguments)) == ("add", {"a": number, "b": number})
            result = {"type": "function_call_output", "call_id": asked.call_id, "output": str(2 * number)}
            given = [result]
        else:
            given = f"Question {number}"
        conversation.turn(given, [assistant(f"Answer {number}")], number % 2 == 0)


def test_thirty_turns(conversation, client):
    led(conversation, range(10))
    fork = conversation.forked()
    led(conversation, range(10, 30))
    trunk = list(conversation.expected)
    assert len(trunk) == 20 * 2 + 10 * 5

    led(fork, range(100, 103))
    api = conversation.api
    pages = api.responses.input_items.list(conversation.previous, order="asc", limit=7)
    listed = [item.to_dict() for item in pages]
    told = [{**item, "status": "completed"} if "role" in item else item for item in trunk]
    assert [{**item, "id": shown["id"]} for item, shown in zip(told, listed, strict=False)] == listed
    assert len(listed) == len(trunk) - 1
    assert api.responses.retrieve(conversation.previous).output_text == "Answer 29"
    with api.responses.retrieve(conversation.previous, stream=True, starting_after=1) as replay:
        assert list(replay)[-1].response.output_text == "Answer 29"

    conversation.upstream.script(Reply(items_stream([SEALED])))
    compacted = api.responses.compact(model="model-1", previous_response_id=conversation.previous)
    assert conversation.sent() == [*trunk, {"type": "compaction_trigger"}]
    assert [item.type for item in compacted.output] == ["compaction"]
    after = Conversation(api, conversation.upstream, [SEALED], compacted.id)
    led(after, range(40, 43))

    led(conversation, range(30, 32))  # the old history can still be continued
    led(fork, range(103, 104))

    api.responses.delete(compacted.id)
    with pytest.raises(openai.NotFoundError):
        api.responses.retrieve(compacted.id)
    with pytest.raises(openai.BadRequestError) as refused:
        api.responses.create(model="model-1", input="x", previous_response_id=compacted.id)
    assert refused.value.code == "previous_response_not_found"
    with pytest.raises(openai.BadRequestError):
        api.responses.cancel(conversation.previous)
    led(after, range(43, 45))


def test_the_same_by_sending_everything_again(conversation, client):
    """As agents do that keep the history themselves, in the package's own objects."""
    api, upstream, history = conversation.api, conversation.upstream, []
    for number in range(15):
        output = [assistant(f"wait {number}"), call(number)]
        result = {"type": "function_call_output", "call_id": f"call_{number}", "output": str(number)}
        for given, answer in ((user(f"Question {number}"), output), (result, [assistant(f"Answer {number}")])):
            history.append(given)
            upstream.script(Reply(items_stream(answer)))
            told = api.responses.create(model="model-1", input=history, tools=[TOOL])
            assert json.loads(upstream.requests[-1].body)["input"] == history
            history += [item.model_dump(exclude_none=True) for item in told.output]
    assert client.rows() == [1, 30, 75]
