"""Ids that upstreams use more than once: a reference never finds an item of another conversation."""

import pytest

from .direct_store import assistant, user

CALL = {"type": "function_call", "name": "f", "arguments": "{}"}
SEALED = {"type": "reasoning", "id": "rs_1", "summary": []}


def reasoning(text):
    return {**SEALED, "encrypted_content": text}


def call(number):
    return {**CALL, "id": "fc_1", "call_id": f"call_{number}"}


def result(number):
    return {"type": "function_call_output", "call_id": f"call_{number}", "output": "42"}


REFERENCES = [{"type": "item_reference", "id": "rs_1"}, {"id": "rs_1"}]


def without_id(item):
    return {name: value for name, value in item.items() if name != "id"}


@pytest.mark.parametrize("reference", [*REFERENCES, SEALED])
def test_the_conversation_at_hand_comes_first(client, reference):
    mine = client.turn("One", output=[reasoning("mine"), call(1)])
    client.turn("Other", output=[reasoning("another's"), call(2)])
    told = client.turn([reference, result(1)], mine.id)
    assert "another's" not in str(told.sent) and str(told.sent).count("'mine'") == 2


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("first", [True, False])
def test_a_tool_loop_of_references_finds_its_own(client, reference, first):
    """As the AI SDK sends it: the reasoning as a reference, the call as it came."""
    one = client.turn("What?", output=[reasoning("one"), call(1)])
    two = client.turn("What?", output=[reasoning("two"), call(2)])
    number, mine = (1, one) if first else (2, two)
    told = client.turn([user("What?"), reference, without_id(call(number)), result(number)])
    assert told.sent[0][1] == mine.output[0]


@pytest.mark.parametrize("reference", REFERENCES)
def test_what_is_not_certain_is_refused(client, reference):
    client.turn("What?", output=[reasoning("one"), assistant("a")])
    client.turn("What?", output=[reasoning("two"), assistant("b")])
    for given in ([reference], [user("What?"), reference], [user("Else"), reference, user("More")]):
        refused = client.ask(given)
        assert (refused.status, refused.error["param"]) == (404, "input")
        assert refused.sent == []


def test_reasoning_that_is_not_certain_stays_as_it_came(client):
    client.turn("What?", output=[reasoning("one"), assistant("a")])
    client.turn("What?", output=[reasoning("two"), assistant("b")])
    told = client.turn([user("What?"), SEALED, user("More")])
    assert told.sent == [[user("What?"), SEALED, user("More")]]


MINE = [{"type": "summary_text", "text": "my own"}]


@pytest.mark.parametrize(("around", "summary"), [([user("Else")], []), ([user("Else")], MINE), ([], MINE)])
def test_reasoning_of_another_conversation_does_not_come_in_by_its_id(client, around, summary):
    """Its id is there once only: that of the client's own was never stored, or is another upstream's."""
    client.turn("What?", output=[{**reasoning("another's"), "summary": [{"type": "summary_text", "text": "x"}]}])
    given = [*around, {**SEALED, "summary": summary}, assistant("b"), user("More")]
    assert client.turn(given).sent == [given]


def test_of_repeated_ids_in_one_conversation_the_one_that_says_the_same_is_meant(client):
    parts = [[{"type": "summary_text", "text": text}] for text in ("one", "two")]
    first = client.turn("One", output=[{**reasoning("1"), "summary": parts[0]}, call(1)])
    second = client.turn([result(1)], first.id, output=[{**reasoning("2"), "summary": parts[1]}, call(2)])
    (sent,) = client.turn([{**SEALED, "summary": parts[0]}, result(2)], second.id).sent
    assert [item.get("encrypted_content") for item in sent if item["type"] == "reasoning"] == ["1", "2", "1"]


def test_the_same_item_stored_twice_is_one(client):
    for _ in range(2):
        client.turn([user("What?"), {**assistant("a"), "id": "msg_1"}, user("More")], store=True)
    assert client.turn([{"id": "msg_1"}]).sent == [[assistant("a", id="msg_1")]]


def test_many_conversations_with_one_id(client):
    for number in range(60):
        client.turn(f"Question {number}", output=[reasoning(f"thought {number}"), call(number)])
    refused = client.ask([REFERENCES[0]])
    assert refused.status == 404
    told = client.turn([user("Question 58"), REFERENCES[0], without_id(call(58)), result(58)])
    assert told.sent[0][1] == reasoning("thought 58")


def test_no_id_is_sent_twice(client):
    first = client.turn("One", output=[reasoning("one"), assistant("a", id="msg_1")])
    second = client.turn("Two", first.id, output=[reasoning("two"), assistant("b", id="msg_1")])
    third = client.turn("Three", second.id)
    (sent,) = third.sent
    ids = [item["id"] for item in sent if "id" in item]
    assert len(ids) == len(set(ids))
    assert [item.get("encrypted_content") for item in sent if item["type"] == "reasoning"] == ["one", "two"]
    again = client.turn("Four", third.id).sent[0]
    assert again[: len(sent)] == sent, "a prompt that was cached stays as it was"


def test_long_ids_are_not_sent_and_call_ids_stay_pairs(client):
    long = "x" * 65
    given = [
        user("One") | {"id": f"msg_{long}"},
        {**CALL, "call_id": f"call_{long}", "id": f"fc_{long}"},
        {"type": "function_call_output", "call_id": f"call_{long}", "output": "1"},
    ]
    (sent,) = client.turn(given).sent
    assert all("id" not in item for item in sent)
    assert sent[1]["call_id"] == sent[2]["call_id"] and len(sent[1]["call_id"]) <= 64


def test_what_another_upstream_numbered_is_sent_without_its_numbers(client):
    first = client.turn("One", model="model-2", output=[assistant("a", id="msg_1"), call(1)])
    told = client.turn([result(1)], first.id, model="model-1")
    assert told.tried == ["first"]
    assert told.sent == [[user("One"), without_id(assistant("a")), without_id(call(1)), result(1)]]


def test_nulls_that_an_upstream_wrote_are_not_sent_back(client):
    part = {"type": "output_text", "text": "a", "annotations": [], "logprobs": None}
    item = {**assistant("a"), "content": [part], "phase": None}
    first = client.turn("One", output=[item])
    (sent,) = client.turn("Two", first.id).sent
    assert sent[1] == assistant("a")


def test_nor_are_nulls_of_tools(client):
    search = {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "x", "sources": None}}
    image = {"type": "input_image", "image_url": "data:x", "file_id": None, "detail": None}
    (sent,) = client.turn([search, {**CALL, "call_id": "call_1"}, {**result(1), "output": [image]}]).sent
    assert "null" not in str(sent) and "None" not in str(sent)
    assert sent[2]["output"] == [{"type": "input_image", "image_url": "data:x"}]
