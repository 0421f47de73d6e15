"""Promises about stored conversations that only the store was tested for, through a running gateway.

Rows are named as in the table of ``tests/test_acceptance.py``.
"""

import itertools
import json
import time

import pytest

from floway_core.storage.db import select
from floway_core.testing import Reply, events

from .direct_store import DAYS, assistant, execute, user

MINE = "api_key_id = (SELECT id FROM api_keys WHERE key_hash = '{}')"
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}
CALL = {"type": "function_call", "id": "fc_1", "name": "f", "arguments": "{}", "call_id": "call_1"}


def change(client, table, setting, *parameters, condition="1 = 1"):
    """Change rows of the client's, as somebody with access to the database might."""
    mine = MINE.format(client.key_hash)
    execute(client.database, f"UPDATE {table} SET {setting} WHERE {mine} AND {condition}", *parameters)


def used_at(client):
    query = f"SELECT used_at FROM responses_conversations WHERE {MINE.format(client.key_hash)}"
    return select(client.database, query)[0][0]


# -------------------------------------------------------------------------------------------------------------- ids
ODD = {
    "of a response": "resp_" + "0" * 32, "short": "x", "NUL": "a\0b", "half a pair": "\ud83d", "long": "\xfc" * 5000,
    "a quote": "' OR 1=1 --", "empty": "", "a path": "../x", "with a checksum": "msg_AAAAAA_0xVvS8c_KjD1sBkZk5qbdA",
}  # fmt: skip


@pytest.mark.parametrize("shape", [{"type": "item_reference"}, {}])
@pytest.mark.parametrize("row", ODD)
def test_an_odd_reference_is_an_unknown_one(client, row, shape):
    """ID-2, AF-1, AF-2: nothing goes upstream."""
    refused = client.ask([{**shape, "id": ODD[row]}])
    assert refused.status in (400, 404) and refused.tried == []
    assert refused.error["type"] == "invalid_request_error" and refused.error["param"].startswith("input")


def test_ids_of_responses_are_unique_and_tell_their_request(client):
    """ID-6, OW-15, HT-1, HT-2: the same id wherever the response is named."""
    made = []
    for stream in (False, True) * 20:
        exchange = client.caller.post({"model": "model-1", "input": "Hi", "stream": stream})
        told = [one["response"] for one in exchange.events() if "response" in one] if stream else [exchange.json()]
        assert {one["id"] for one in told} == {f"resp_{exchange.headers['x-request-id'].replace('-', '')}"}
        made.append(told[0]["id"])
    assert len(set(made)) == 40


def test_two_hundred_references_are_found_in_their_order(client):
    """RP-13"""
    output = [assistant(f"{number:03}") for number in range(200)]
    client.turn("Hi", output=output)
    wanted = [*reversed(output), output[7]]
    once_more = {name: value for name, value in output[7].items() if name != "id"}  # no id is sent twice
    assert client.turn([{"id": item["id"]} for item in wanted]).sent == [[*wanted[:-1], once_more]]


# ------------------------------------------------------------------------------------------------- who and what it is
def test_of_equal_blobs_the_latest_issuer_counts(client):
    """AF-14, RW-13"""
    for model in ("model-1", "model-2"):
        client.turn("One", model=model, output=[REASONING, assistant(model)])
    anonymous = {name: value for name, value in REASONING.items() if name != "id"}
    assert client.turn([user("Hi"), anonymous], model="both").tried == ["second"]


def test_a_compaction_that_only_the_terminal_event_holds_starts_the_history_anew(client, fake_upstream):
    """OW-14"""
    sealed = {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"}
    first = client.turn("One")
    told = events.response("completed", output=[sealed], usage=events.USAGE)
    fake_upstream.script(Reply([events.event("response.completed", response=told)]))
    asked = {"previous_response_id": first.id, "headers": {"x-test-upstream": fake_upstream.url}}
    compacted = client.ask("Two", **asked)
    assert compacted.output == [sealed] and compacted.commit["mode"] == "replace"
    assert client.turn("Three", compacted.id).sent == [[sealed, user("Three")]]


def test_nobody_compacts_with_a_model_that_there_is_not(client):
    """SV-15, SV-19"""
    for path in ("/v1/responses/compact", "/v1/responses"):
        refused = client.ask("One", model="none", path=path)
        assert (refused.status, refused.error["param"]) == (404, "model") and "none" in refused.error["message"]


# ------------------------------------------------------------------------------------------------- what is repeated
HISTORY = [user("One"), REASONING, CALL, assistant("a")]
# row: what a client that sends everything again may make of an item that it was given
HARMLESS = {
    "nothing": lambda item: item,
    "no ids": lambda item: {name: value for name, value in item.items() if name != "id"},
    "no status": lambda item: {name: value for name, value in item.items() if name != "status"},
    "keys in another order": lambda item: dict(reversed(item.items())),
    "nulls": lambda item: {**item, "status": item.get("status"), "phase": None},
}  # fmt: skip


@pytest.mark.parametrize("row", HARMLESS)
def test_a_history_that_is_sent_again_is_recognised(client, row):
    """SV-25: what is stored already is not stored again."""
    first = client.turn("One", output=HISTORY[1:])
    before = client.rows()
    told = client.turn([*map(HARMLESS[row], HISTORY), user("Two")])
    assert told.commit["previous"]["id"] == first.id
    assert [after - old for after, old in zip(client.rows(), before, strict=True)] == [0, 1, 2]


def test_a_history_that_differs_is_another_one(client):
    """In one word, in its order, or by an item."""
    client.turn("One", output=HISTORY[1:])
    for other in ([user("One!"), *HISTORY[1:]], [HISTORY[0], *reversed(HISTORY[1:])], HISTORY[:-1]):
        assert client.turn([*other, user("Two")]).commit["previous"] is None


def test_equal_items_of_one_request_stand_once_each(client):
    twice = [user("Same"), user("Same")]
    told = client.turn(twice)
    assert told.sent == [twice] and client.turn("On", told.id).sent[0][:2] == twice


# ----------------------------------------------------------------------------------------------------------- damage
DAMAGED = [b"", b"j[]", b"jnull", b'j{"a":1', b"zrubbish", b"\xff"]


@pytest.mark.parametrize("payload", DAMAGED)
def test_a_damaged_payload_is_an_error_that_names_its_place(client, payload):
    """RP-10, PL-7, SS-1: never a wrong answer, for whoever comes across it."""
    first = client.turn("One")
    change(client, "responses_items", "payload = ?", payload)
    asked = {"model": "model-1", "input": "Two", "previous_response_id": first.id}
    exchanges = [client.caller.post(asked), *(client.caller.get(f"/v1/responses/{first.id}{more}") for more in READING)]
    for exchange in exchanges:
        error = exchange.json()["error"]
        assert (exchange.status, error["code"]) == (500, "stored_data_invalid"), exchange.received
        assert "responses_items.payload of row " in error["message"]


READING = ["", "/input_items"]


# --------------------------------------------------------------------------------------------------------- lifetimes
DAY = 86_400


def test_an_old_item_lives_as_long_as_its_conversation(client, acting):
    """X-11, RP-4: stored 29 days ago, used today, and there in five days and in 29."""
    first = client.turn("One")
    now = int(time.time())
    change(client, "responses_snapshots", "created_at = ?", now - 29 * DAY)
    change(client, "responses_conversations", "used_at = ?", now - 29 * DAY)
    second = client.turn("Two", first.id)
    assert now - used_at(client) < 60
    for days in (5, 24):
        change(client, "responses_conversations", "used_at = used_at - ?", days * DAY)
        assert acting.gateway.run("retention", "run").returncode == 0
    sent = client.turn("Three", second.id).sent[0]
    assert sent[:2] == [user("One"), *first.output]


def test_what_has_expired_is_gone_before_any_sweep(client):
    """X-9"""
    first = client.turn("One", output=[assistant("old")])
    change(client, "responses_conversations", "used_at = ?", int(time.time() - (DAYS + 0.1) * DAY))
    assert client.ask("Two", previous_response_id=first.id).error["code"] == "previous_response_not_found"
    assert client.caller.get(f"/v1/responses/{first.id}").status == 404
    assert client.ask([{"id": "msg_old"}]).status == 404


def test_reading_rarely_writes(client):
    """RP-2, RP-3: the last use is noted when it is an hour off."""
    told = client.turn("One")
    for seconds, written in ((1800, False), (4000, True)):
        then = int(time.time()) - seconds
        change(client, "responses_conversations", "used_at = ?", then)
        assert client.caller.get(f"/v1/responses/{told.id}").status == 200
        assert (used_at(client) != then) == written


# ------------------------------------------------------------------------------------------------------------- costs
def test_a_turn_writes_as_much_at_every_length(client):
    """X-10"""
    written = "SELECT count(*), coalesce(sum(length(payload)), 0) FROM responses_items WHERE " + MINE
    last, sizes = None, []
    for number in range(40):
        last = client.turn(f"{number:04}", last, output=[assistant(f"{number:04}")]).id
        sizes.append(select(client.database, written.format(client.key_hash))[0])
    steps = {(after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(sizes)}
    assert len(steps) == 1 and steps.pop()[0] == 2
    assert len(client.turn("End", last).sent[0]) == 81


@pytest.mark.parametrize("size", [70_000, 3_000_000])
def test_a_large_item_comes_back_whole(client, size):
    """RP-14, PL-3: also the kind that other gateways put into a file."""
    big = user("".join(chr(97 + number % 26) for number in range(size)))
    first = client.turn([big])
    assert client.turn("Two", first.id).sent[0][0] == big
    listed = client.caller.get(f"/v1/responses/{first.id}/input_items").json()["data"]
    assert json.dumps(listed[0]["content"]) == json.dumps(big["content"])
