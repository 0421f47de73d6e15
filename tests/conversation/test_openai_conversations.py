"""The openai package creates conversations, leads turns in them, and edits their items."""

import json

import openai
import pytest

from floway_core.testing import Reply, items_stream

from .direct_store import assistant, user


@pytest.fixture
def api(acting, client, fake_upstream, openai_package):
    key = client.caller.headers["authorization"].removeprefix("Bearer ")
    return openai_package(acting.gateway.url, key, {"x-test-upstream": fake_upstream.url})


def texts(items):
    return [part.text for item in items for part in item.content]


def test_a_whole_life(api, fake_upstream):
    conversation = api.conversations.create(items=[user("zero")], metadata={"topic": "demo"})
    assert api.conversations.retrieve(conversation.id) == conversation
    assert api.conversations.update(conversation.id, metadata={"topic": "other"}).metadata == {"topic": "other"}

    fake_upstream.script(Reply(items_stream([assistant("1")])), Reply(items_stream([assistant("2")])))
    told = api.responses.create(model="model-1", input="one", conversation=conversation.id)
    assert told.conversation.id == conversation.id and told.output_text == "1"
    with api.responses.stream(model="model-1", input="two", conversation={"id": conversation.id}) as stream:
        assert stream.until_done().get_final_response().output_text == "2"
    sent = json.loads(fake_upstream.requests[-1].body)["input"]
    assert [part["text"] for item in sent for part in item["content"]] == ["zero", "one", "1", "two"]

    added = api.conversations.items.create(conversation.id, items=[{"role": "user", "content": "three"}])
    assert texts(added.data) == ["three"]
    listed = list(api.conversations.items.list(conversation.id, order="asc", limit=2))
    assert texts(listed) == ["zero", "one", "1", "two", "2", "three"]
    item = api.conversations.items.retrieve(listed[3].id, conversation_id=conversation.id)
    assert texts([item]) == ["two"]
    assert api.conversations.items.delete(item.id, conversation_id=conversation.id).id == conversation.id
    rest = api.conversations.items.list(conversation.id, order="asc")
    assert texts(rest) == ["zero", "one", "1", "2", "three"]

    assert api.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError):
        api.conversations.retrieve(conversation.id)
    with pytest.raises(openai.NotFoundError):
        api.responses.create(model="model-1", input="x", conversation=conversation.id)
