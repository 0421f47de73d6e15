"""Items: their order, their final form, references to them, and unknown types."""

import json

import pytest

from floway_core.storage.db import select
from floway_core.testing import Reply, event
from floway_core.testing.events import response as response_object

from .direct_store import assistant, user

IDS = "SELECT item_id FROM responses_items WHERE api_key_id = ?"
SEALED = {"type": "reasoning", "id": "rs_1", "summary": []}
CALL = {"type": "function_call", "id": "fc_1", "name": "f", "arguments": "{}", "call_id": "call_1"}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
UNKNOWN = {"type": "quantum_thought", "id": "qt_1", "state": {"up": 0.5, "down": [None, "ü"]}, "flag": False}


def without_id(item):
    return {name: value for name, value in item.items() if name != "id"}


def closing(index, item):
    return event("response.output_item.done", output_index=index, item=item, sequence_number=index)


def ending(output, kind="completed"):
    return event(f"response.{kind}", response=response_object(kind, output=output), sequence_number=99)


def scripted(client, fake_upstream, chunks, **fields):
    fake_upstream.script(Reply(chunks))
    answer = client.ask("One", headers={"x-test-upstream": fake_upstream.url}, **fields)
    assert answer.status == 200
    return answer


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "terminal",
    [[], [assistant("c")], [assistant("a"), assistant("b"), assistant("c")], None],
    ids=["empty", "partial", "whole", "none"],
)
def test_order_is_the_output_index(client, fake_upstream, stream, terminal):
    chunks = [closing(2, assistant("c")), closing(0, assistant("a")), closing(1, assistant("b")), ending(terminal)]
    told = scripted(client, fake_upstream, chunks, stream=stream)
    output = [assistant("a"), assistant("b"), assistant("c")]
    assert told.output == output
    assert client.turn("Two", told.id).sent == [[user("One"), *output, user("Two")]]
    assert client.caller.get(f"/v1/responses/{told.id}").json()["output"] == output


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_said_when_an_item_closed_is_final(client, fake_upstream, stream):
    closed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "first seal"}
    later = {**closed, "id": "rs_other", "encrypted_content": "second seal"}
    told = scripted(client, fake_upstream, [closing(0, closed), ending([later, assistant("a")])], stream=stream)
    assert told.output == [closed, assistant("a")]
    assert client.turn("Two", told.id).sent[0] == [user("One"), closed, assistant("a"), user("Two")]


def test_items_of_an_unknown_kind(client):
    odd = [UNKNOWN, {"type": "x" * 500}, {"no": "type", "id": "n_1"}]
    told = client.turn(odd, output=[assistant("a"), *odd])
    assert told.sent == [odd]
    again = client.turn(odd, told.id)
    sent = again.sent[0]
    assert [without_id(item) for item in sent] == [without_id(item) for item in (*odd, assistant("a"), *odd, *odd)]
    ids = [item["id"] for item in sent if "id" in item]
    assert ids[0] == "qt_1" and len(ids) == len(set(ids)), "no id is sent twice"
    assert client.turn([{"id": "qt_1"}]).sent == [[UNKNOWN]]


@pytest.mark.parametrize("shape", [{"type": "item_reference"}, {}])
def test_references(client, shape):
    first = client.turn([user("One"), {**user("kept"), "id": "msg_kept"}], output=[CALL, assistant("a")])
    wanted = [{**shape, "id": name} for name in ("msg_a", "fc_1", "msg_kept", "fc_1")]
    told = client.turn([user("Two"), *wanted, RESULT])
    once_more = without_id(CALL)  # no id is sent twice
    assert told.sent == [[user("Two"), assistant("a"), CALL, {**user("kept"), "id": "msg_kept"}, once_more, RESULT]]
    assert client.turn("Three", told.id).sent[0][:6] == told.sent[0]
    refused = client.ask([user("Two"), {**shape, "id": "msg_none"}], previous_response_id=first.id)
    assert refused.status == 404
    assert refused.body == {
        "error": {
            "message": "Item with id 'msg_none' not found.",
            "type": "invalid_request_error",
            "param": "input",
            "code": None,
        }
    }


@pytest.mark.parametrize("rest", [{"summary": []}, {"summary": [], "encrypted_content": None}])
def test_reasoning_without_its_content_is_a_reference(client, rest):
    """So send it back who have no use for what they cannot read. What nobody knows is left as it is."""
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}
    first = client.turn("One", output=[reasoning, assistant("a")])
    again = [user("One"), {"type": "reasoning", "id": "rs_1", **rest}, assistant("a"), user("Two")]
    told = client.turn(again)
    assert told.sent == [[user("One"), reasoning, assistant("a"), user("Two")]]
    assert client.rows()[0] == 1, "it goes on with what it repeats"
    unknown = {"type": "reasoning", "id": "rs_unknown", **rest}
    assert client.turn([user("One"), unknown]).sent == [[user("One"), {**SEALED, "id": "rs_unknown"}]]
    assert first.output[0] == reasoning


def test_items_without_an_id_get_one_of_their_own(store):
    first = store.turn([user("One"), user("Two")], assistant("a"))
    store.turn([user("Three")], assistant("b"), previous=first)
    ids = [row_id for (row_id,) in select(store.database, IDS, store.key_id)]
    assert len(ids) == len(set(ids)) == 5


def test_references_are_looked_up_together(store, queries):
    output = [assistant(str(number)) for number in range(1200)]
    store.turn("Hi", *output)
    del queries[:]
    turn = store.begin([{"id": item["id"]} for item in output], store=False)
    assert turn.input.items == output
    assert len(queries) == 3 + 3  # the sizes first, so that no more is loaded than may be sent


def test_a_history_of_references_is_recognised(client):
    first = client.turn("One", output=[CALL, assistant("a")])
    again = [user("One"), {"type": "item_reference", "id": "fc_1"}, {"type": "item_reference", "id": "msg_a"}]
    told = client.turn([*again, user("Two")])
    assert told.sent == [[user("One"), CALL, assistant("a"), user("Two")]]
    assert told.commit["previous"]["id"] == first.id
    assert client.rows() == [1, 2, 5]


def test_an_item_is_sent_as_it_was_given(client):
    given = [
        {"role": "user", "content": "plain"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]},
        {"type": "function_call", "name": "f", "arguments": '{"ü": "\\u0000"}', "call_id": "c", "status": None},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": ""}]},
        {"role": "system", "content": "", "empty": [], "nothing": None},
    ]
    told = client.turn(given)
    sent = [{name: value for name, value in item.items() if value is not None} for item in given]
    assert told.sent == [sent]
    assert json.dumps(client.turn("x", told.id).sent[0][:5]) == json.dumps(sent)
