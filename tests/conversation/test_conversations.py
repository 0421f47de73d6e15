"""Conversations with an id: what a turn adds, what a client adds and removes by hand, and how they end."""

import time

import pytest

from floway_core.conversation import retention
from floway_core.storage.db import select

from .conversation_client import Api, texts
from .direct_store import assistant, execute, user


@pytest.fixture
def api(client):
    return Api(client)


def test_an_object_of_its_own(api):
    made = api.send("POST", body={"metadata": {"topic": "demo"}})
    assert set(made) == {"id", "object", "created_at", "metadata"}
    assert made["object"] == "conversation" and made["id"].startswith("conv_") and made["metadata"] == {"topic": "demo"}
    assert abs(made["created_at"] - time.time()) < 100
    path = f"/{made['id']}"
    assert api.send("GET", path) == made
    assert api.send("POST", path, {"metadata": {"other": "\0 \ud83d"}}) == {**made, "metadata": {"other": "\0 \ud83d"}}
    assert api.items(made["id"]) == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False,
    }  # fmt: skip
    assert api.send("DELETE", path) == {"id": made["id"], "object": "conversation.deleted", "deleted": True}
    for method, rest, body in (("GET", "", None), ("DELETE", "", None), ("GET", "/items", None),
                               ("POST", "", {"metadata": {}}), ("POST", "/items", {"items": [user("x")]})):  # fmt: skip
        error = api.send(method, path + rest, body, status=404)["error"]
        assert error["message"] == f"Conversation with id '{made['id']}' not found."
    assert api.client.rows() == [0, 0, 0]


def test_without_a_body(api):
    exchange = api.client.caller.send("POST", "/conversations")
    assert exchange.status == 200 and exchange.json()["metadata"] == {}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("as_object", [False, True])
def test_turns_add_to_it_once(api, stream, as_object):
    conversation = api.create(user("zero"))
    named = {"id": conversation} if as_object else conversation
    first = api.client.turn("one", conversation=named, output=[assistant("1")], stream=stream)
    assert first.response["conversation"] == {"id": conversation}
    second = api.turn(conversation, "two", "2", stream=stream)
    assert texts(second.sent[0]) == ["zero", "one", "1", "two"]
    assert "conversation" not in next(note["fields"] for note in second.notes if note["event"] == "send")
    assert api.texts(conversation) == ["zero", "one", "1", "two", "2"]
    assert api.client.rows() == [1, 3, 5]
    # the metadata of plugins goes on, over items that were added by hand
    api.add(conversation, user("by hand"))
    third = api.turn(conversation, "three", "3")
    assert third.commit["inherited"] == {"turns": 2}
    assert texts(third.sent[0]) == ["zero", "one", "1", "two", "2", "by hand", "three"]


def test_the_same_thing_as_a_chain_of_responses(api):
    conversation = api.create()
    first = api.turn(conversation, "one", "1")
    second = api.turn(conversation, "two", "2")
    fork = api.client.turn("fork", second.id, output=[assistant("f")])
    assert texts(fork.sent[0]) == ["one", "1", "two", "2", "fork"]
    assert fork.response["previous_response_id"] == second.id and fork.response.get("conversation") is None
    assert api.texts(conversation) == ["one", "1", "two", "2"]  # a fork is no part of it
    got = api.client.caller.send("GET", f"/v1/responses/{first.id}").json()
    assert got == first.response
    # deleting a response takes nothing from the conversation
    for response_id in (first.id, second.id):
        assert api.client.caller.send("DELETE", f"/v1/responses/{response_id}").status == 200
    assert api.texts(conversation) == ["one", "1", "two", "2"]
    assert texts(api.turn(conversation, "three", "3").sent[0]) == ["one", "1", "two", "2", "three"]


def test_a_response_that_is_not_to_be_stored_is_part_of_it_nevertheless(api):
    conversation = api.create()
    told = api.turn(conversation, "one", "1", store=False)
    assert told.response.get("store") is not True
    assert api.client.caller.send("GET", f"/v1/responses/{told.id}").status == 404
    assert api.client.ask("x", previous_response_id=told.id).status == 400
    assert texts(api.turn(conversation, "two", "2").sent[0]) == ["one", "1", "two"]


def test_without_input(api):
    conversation = api.create(user("zero"))
    told = api.client.turn(conversation=conversation, output=[assistant("0")])
    assert texts(told.sent[0]) == ["zero"]
    assert api.texts(conversation) == ["zero", "0"]


def test_a_compaction_starts_it_anew(api):
    conversation = api.create(user("zero"))
    api.turn(conversation, "one", "1")
    sealed = {"id": "cmp_1", "type": "compaction", "encrypted_content": "sealed"}
    api.client.turn([{"type": "compaction_trigger"}], conversation=conversation, output=[sealed])
    assert [item["type"] for item in api.items(conversation)["data"]] == ["compaction"]
    told = api.turn(conversation, "two", "2")
    assert [item["type"] for item in told.sent[0]] == ["compaction", "message"]
    removed = api.items(conversation)["data"][1]["id"]
    api.remove(conversation, removed)
    assert [item["type"] for item in api.items(conversation)["data"]] == ["compaction", "message"]


def test_a_compaction_leaves_nothing_that_nobody_needs(api):
    conversation = api.create(user("zero"))
    api.turn(conversation, "one", "1", store=False)
    kept = api.turn(conversation, "two", "2")
    api.turn(conversation, "three", "3", store=False)
    sealed = {"id": "cmp_1", "type": "compaction", "encrypted_content": "sealed"}
    api.client.turn([{"type": "compaction_trigger"}], conversation=conversation, output=[sealed])
    assert api.client.rows() == [1, 4, 6]  # without the third turn, which is part of no history any more
    assert texts(api.client.turn("four", kept.id).sent[0]) == ["zero", "one", "1", "two", "2", "four"]


def test_items_are_paged_and_read(api):
    conversation = api.create(*(user(f"{number}") for number in range(3)))
    added = api.add(conversation, {"role": "user", "content": "3"}, {**user("4"), "id": "msg_mine"}, assistant("5"))
    assert added["object"] == "list" and not added["has_more"] and texts(added["data"]) == ["3", "4", "5"]
    assert [item["id"] for item in added["data"]][1:] == ["msg_mine", "msg_5"]
    assert added["first_id"] == added["data"][0]["id"] and added["last_id"] == "msg_5"
    assert added["data"][0]["type"] == "message" and added["data"][0]["status"] == "completed"
    api.add(conversation, {**user("again"), "id": "msg_mine"})
    seen, page = [], api.items(conversation, order="desc", limit=2)
    while page["data"]:
        seen += page["data"]
        page = api.items(conversation, order="desc", limit=2, after=page["last_id"])
    assert texts(seen) == ["again", "5", "4", "3", "2", "1", "0"]
    for item in seen:
        assert api.send("GET", f"/{conversation}/items/{item['id']}") == item
    error = api.send("GET", f"/{conversation}/items/msg_other", status=404)["error"]
    assert error["message"] == f"Item with id 'msg_other' not found in conversation with id '{conversation}'."


def test_items_without_ids_get_those_that_upstreams_accept(api):
    """Agents that keep their session in a conversation send back the items that they read from it."""
    call = {"call_id": "call_1", "name": "weather", "arguments": "{}"}
    custom = {"call_id": "call_2", "name": "shell", "input": "ls"}
    items = [
        user("weather?"),
        {"type": "function_call", **call},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        {"type": "custom_tool_call", **custom},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "a"},
    ]
    conversation = api.create(*items)
    listed = api.items(conversation)["data"]
    assert [item["id"].partition("_")[0] for item in listed] == ["msg", "fc", "fco", "ctc", "ctco"]
    sent = api.client.ask([*listed, user("and now?")]).sent[0]
    assert [item["id"] for item in sent[:5]] == [item["id"] for item in listed]


def test_items_may_refer_to_others(api):
    told = api.client.turn("one", output=[assistant("1")])
    conversation = api.create({"type": "item_reference", "id": told.output[0]["id"]}, user("two"))
    assert api.texts(conversation) == ["1", "two"]
    body = {"items": [{"type": "item_reference", "id": "msg_nowhere"}]}
    error = api.send("POST", f"/{conversation}/items", body, status=404)["error"]
    assert "msg_nowhere" in error["message"] and error["param"] == "items"


@pytest.mark.parametrize("removed", range(7))
def test_an_item_is_removed(api, removed):
    conversation = api.create(user("zero"))
    api.turn(conversation, "one", "1")
    api.turn(conversation, "two", "2", store=False)
    api.add(conversation, user("three"), user("four"))
    expected = ["zero", "one", "1", "two", "2", "three", "four"]
    assert api.texts(conversation) == expected
    items = api.items(conversation)["data"]
    told = api.remove(conversation, items[removed]["id"])
    assert told["object"] == "conversation" and told["id"] == conversation
    del expected[removed], items[removed]
    assert api.items(conversation)["data"] == items  # with the same ids
    assert texts(api.turn(conversation, "five", "5").sent[0]) == [*expected, "five"]
    assert api.remove(conversation, "msg_other", status=404)


def test_all_items_are_removed_one_by_one(api):
    conversation = api.create(user("zero"), user("one"))
    api.turn(conversation, "two", "2", store=False)
    rows = api.client.rows()[2]
    for item in api.items(conversation, order="desc")["data"]:
        api.remove(conversation, item["id"])
        assert api.client.rows()[2] < rows  # nothing else needs them, so they are gone
        rows = api.client.rows()[2]
    assert api.texts(conversation) == [] and api.client.rows() == [1, 0, 0]
    assert texts(api.turn(conversation, "anew", "n").sent[0]) == ["anew"]


def test_a_response_keeps_the_item_that_was_removed(api):
    conversation = api.create(user("zero"))
    told = api.turn(conversation, "one", "1")
    api.remove(conversation, api.items(conversation)["data"][0]["id"])
    assert texts(api.client.turn("two", told.id).sent[0]) == ["zero", "one", "1", "two"]
    assert api.texts(conversation) == ["one", "1"]


def test_how_much_it_stores_is_counted(api):
    """Whatever is done to it: what is stored is what is counted."""
    conversation = api.create(user("zero"), topic="x")
    api.turn(conversation, "one", "1")
    api.turn(conversation, "two", "2", store=False)
    api.add(conversation, user("three"))
    api.send("POST", f"/{conversation}", {"metadata": {"topic": "a longer one"}})
    for item in api.items(conversation)["data"][:3]:
        api.remove(conversation, item["id"])
    database = api.client.database
    sql = "SELECT id, stored_bytes FROM responses_conversations WHERE public_id = ?"
    ((row, counted),) = select(database, sql, conversation)
    assert counted == size_of_conversation(database, row)
    assert api.send("DELETE", f"/{conversation}")["deleted"]
    ((left,),) = select(database, "SELECT stored_bytes FROM responses_conversations WHERE id = ?", row)
    assert 0 < left == size_of_conversation(database, row) < counted  # one response is left of it


def size_of_conversation(database, row):
    """The bytes of everything that is stored of a conversation, with 200 for each row."""
    statements = (
        "SELECT LENGTH(metadata_json) FROM responses_conversations WHERE public_id IS NOT NULL AND id = ?",
        "SELECT LENGTH(envelope) FROM responses_snapshots WHERE conversation_id = ?",
        "SELECT LENGTH(payload) FROM responses_items WHERE snapshot_id IN "
        "(SELECT id FROM responses_snapshots WHERE conversation_id = ?)",
    )
    return sum(length + 200 for sql in statements for (length,) in select(database, sql, row))


def test_deleting_it_leaves_its_responses(api):
    conversation = api.create(user("zero"))
    told = api.turn(conversation, "one", "1")
    api.turn(conversation, "two", "2", store=False)
    api.add(conversation, user("three"))
    api.send("DELETE", f"/{conversation}")
    assert api.client.rows() == [1, 2, 3]  # "zero", and the first turn
    assert texts(api.client.turn("four", told.id).sent[0]) == ["zero", "one", "1", "four"]
    answer = api.client.ask("five", conversation=conversation)
    assert answer.status == 404 and answer.error["param"] == "conversation"


def test_it_expires(api, client, acting):
    conversation = api.create(user("zero"))
    empty = api.create()
    now = int(time.time())
    for used, status in ((now - 29 * 86_400, 200), (now - 31 * 86_400, 404)):
        execute(acting.database, "UPDATE responses_conversations SET used_at = ?", used)
        for one in (conversation, empty):
            api.send("GET", f"/{one}", status=status)
    retention.sweep(acting.database, 30)
    assert client.rows() == [0, 0, 0]


BAD = [
    ({"items": "x"}, "items"),
    ({"items": ["x"]}, "items[0]"),
    ({"items": [{"type": 1}]}, "items[0].type"),
    ({"items": [{}]}, "items[0].type"),
    ({"items": [{"role": "user"}]}, "items[0].content"),
    ({"items": [{"type": "message", "content": "x"}]}, "items[0].role"),
    ({"metadata": []}, "metadata"),
    ({"metadata": {"a": 1}}, "metadata.a"),
]


@pytest.mark.parametrize(("body", "param"), BAD)
def test_bad_bodies(api, body, param):
    assert api.send("POST", body=body, status=400)["error"]["param"] == param
    conversation = api.create()
    path = f"/{conversation}/items" if "items" in body else f"/{conversation}"
    assert api.send("POST", path, body, status=400)["error"]["param"] == param
    for missing in ({}, {"items": None, "metadata": None}):
        error = api.send("POST", path, missing, status=400)["error"]
        assert error["code"] == "missing_required_parameter" and error["param"] == param.partition("[")[0].split(".")[0]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"conversation": {}}, 400, "missing_required_parameter"),
        ({"conversation": 5}, 400, "invalid_type"),
        ({"conversation": {"id": 5}}, 400, "invalid_type"),
        ({"conversation": "conv_0"}, 404, None),
        ({"conversation": ""}, 404, None),
        ({"conversation": "\0"}, 404, None),
        ({"conversation": "\ud83d"}, 404, None),
        ({"conversation": "conv_0", "previous_response_id": "resp_0"}, 400, "mutually_exclusive_parameters"),
    ],
)
def test_bad_references(api, fields, status, code):
    answer = api.client.ask("x", **fields)
    assert answer.status == status and answer.error["code"] == code
    assert answer.error["param"].startswith("conversation")
    counted = api.client.caller.post({"model": "model-1", "input": "x", **fields}, "/v1/responses/input_tokens")
    assert counted.status == status


def test_tokens_are_counted_without_a_lock(api):
    conversation = api.create(user("a longer text than none"))
    body = {"model": "model-1", "input": "x"}
    alone = api.client.caller.post(body, "/v1/responses/input_tokens").json()
    with_it = api.client.caller.post({**body, "conversation": conversation}, "/v1/responses/input_tokens").json()
    assert with_it["input_tokens"] > alone["input_tokens"]
    assert api.client.rows()[1:] == [1, 1]
