"""Responses that are not stored: on a WebSocket they can be continued as long as it is open."""

import json
from functools import partial

import pytest

from floway_core.conversation.cache import HistoryCache
from floway_core.conversation.records import History
from floway_core.conversation.unstored import MAX_RESPONSES, UnstoredResponses
from floway_core.storage.db import connect as connect_database
from floway_core.storage.db import select
from floway_core.testing import Reply, message_stream

NOT_FOUND = (400, "previous_response_not_found")


@pytest.fixture
def connect(websocket, gateway, fake_upstream):
    fake_upstream.answer_always("/answers", Reply(message_stream("Answer.")))
    return partial(websocket, gateway)


@pytest.fixture
def sent(fake_upstream):
    """The texts of the input of the latest request, and of the one ``back`` before it."""

    def read(back=0):
        items = json.loads(fake_upstream.requests[-1 - back].body)["input"]
        return [item["content"][0]["text"] for item in items]

    return read


@pytest.fixture
def stored_rows(gateway):
    database = connect_database(f"sqlite:///{gateway.database}")
    yield lambda: select(database, "SELECT COUNT(*) FROM responses_snapshots")[0][0]
    database.close_all()


def test_a_response_that_is_not_stored_can_be_continued_on_its_connection(connect, sent, stored_rows):
    client, before = connect(), stored_rows()
    first = client.turn("One", store=False)
    second = client.turn("Two", store=False, previous_response_id=first["id"])
    assert sent() == ["One", "Answer.", "Two"]
    assert second["previous_response_id"] == first["id"] and second.get("store") is not True
    client.turn("Three", store=False, previous_response_id=second["id"])
    assert sent() == ["One", "Answer.", "Two", "Answer.", "Three"]
    assert stored_rows() == before


def test_an_earlier_response_can_be_continued_again(connect, sent):
    client = connect()
    first = client.turn("One", store=False)
    client.turn("Two", store=False, previous_response_id=first["id"])
    client.turn("Other", store=False, previous_response_id=first["id"])
    assert sent() == ["One", "Answer.", "Other"]


def test_nobody_else_can_continue_it(connect, ask, refused):
    client, other = connect(), connect()
    first = client.turn("One", store=False)
    other.refused(*NOT_FOUND, previous_response_id=first["id"])
    refused(
        ask.post({"model": "model-1", "input": "Hi", "previous_response_id": first["id"]}),
        *NOT_FOUND,
        "previous_response_id",
    )
    client.connection.close()
    connect().refused(*NOT_FOUND, previous_response_id=first["id"])


def test_the_connection_goes_on_after_an_unknown_id(connect, sent):
    client = connect()
    first = client.turn("One", store=False)
    client.refused(*NOT_FOUND, previous_response_id="resp_unknown")
    client.turn("Two", store=False, previous_response_id=first["id"])
    assert sent() == ["One", "Answer.", "Two"]


def test_a_failed_response_cannot_be_continued_but_the_one_before_can(connect, fake_upstream, sent):
    client = connect()
    first = client.turn("One", store=False)
    fake_upstream.answer_always("/answers", Reply([b"{}"], 500))
    client.refused(500, "upstream_refused", "Two", store=False, previous_response_id=first["id"])
    fake_upstream.answer_always("/answers", Reply(message_stream("Answer.")))
    client.turn("Two again", store=False, previous_response_id=first["id"])
    assert sent() == ["One", "Answer.", "Two again"]


def test_a_stored_response_is_continued_from_everywhere(connect, ask, sent):
    first = connect().turn("One")
    assert first["store"] is True
    second = connect().turn("Two", previous_response_id=first["id"])
    third = ask.post({"model": "model-1", "input": "Three", "previous_response_id": second["id"]})
    assert third.status == 200 and sent() == ["One", "Answer.", "Two", "Answer.", "Three"]


def test_stored_and_unstored_responses_may_follow_each_other(connect, ask, sent, stored_rows):
    """The stored one becomes a child of the stored one before it, with everything in between."""
    client = connect()
    stored = client.turn("One")
    unstored = client.turn("Two", store=False, previous_response_id=stored["id"])
    unstored = client.turn("Three", store=False, previous_response_id=unstored["id"])
    before = stored_rows()
    last = client.turn("Four", previous_response_id=unstored["id"])
    whole = ["One", "Answer.", "Two", "Answer.", "Three", "Answer.", "Four"]
    assert sent() == whole and stored_rows() == before + 1
    ask.post({"model": "model-1", "input": "Five", "previous_response_id": last["id"]}).json()
    assert sent() == [*whole, "Answer.", "Five"]
    assert [row["id"] for row in ask.get(f"/v1/responses/{last['id']}/input_items").json()["data"]]


def test_a_stored_response_may_follow_one_whose_stored_beginning_was_deleted(connect, ask, sent):
    client = connect()
    stored = client.turn("One")
    unstored = client.turn("Two", store=False, previous_response_id=stored["id"])
    assert ask.send("DELETE", f"/v1/responses/{stored['id']}").status == 200
    last = client.turn("Three", previous_response_id=unstored["id"])
    ask.post({"model": "model-1", "input": "Four", "previous_response_id": last["id"]}).json()
    assert sent() == ["One", "Answer.", "Two", "Answer.", "Three", "Answer.", "Four"]


def test_an_unstored_history_is_recognised_when_it_is_sent_as_a_whole(connect, sent, stored_rows):
    client = connect()
    first = client.turn("One")
    one, two = ({"role": "user", "content": [{"type": "input_text", "text": text}]} for text in ("One", "Two"))
    whole = [one, *first["output"], two]
    second = client.turn(whole, store=False)
    client.turn("Three", previous_response_id=second["id"])
    assert len(sent()) == 5


def test_an_item_of_an_unstored_response_can_be_referred_to(connect, sent):
    client = connect()
    first = client.turn("One", store=False)
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    client.turn(
        [reference, {"role": "user", "content": [{"type": "input_text", "text": "Two"}]}],
        store=False,
        previous_response_id=first["id"],
    )
    assert sent() == ["One", "Answer.", "Answer.", "Two"]


def test_a_compaction_starts_the_history_anew(connect, fake_upstream, sent):
    client = connect()
    first = client.turn("One", store=False)
    fake_upstream.answer_always("/answers", Reply(message_stream("The summary.")))
    second = client.turn([{"type": "compaction_trigger"}], store=False, previous_response_id=first["id"])
    assert [item["type"] for item in second["output"]] == ["compaction"]
    fake_upstream.answer_always("/answers", Reply(message_stream("Answer.")))
    third = client.turn("Two", store=False, previous_response_id=second["id"])
    client.turn("Three", store=False, previous_response_id=third["id"])
    assert "The summary." in sent()[0] and sent()[1:] == ["Two", "Answer.", "Three"]


# ------------------------------------------------------------------------------------------------------------- warm-up
@pytest.mark.parametrize("store", [True, False])
def test_a_warm_up_is_answered_without_an_upstream_and_can_be_continued(connect, fake_upstream, sent, store):
    client = connect()
    events = client.respond([], generate=False, store=store, instructions="Be brief.", metadata={"a": "b"})
    assert [one["type"] for one in events][:1] == ["response.created"]
    warm = events[-1]["response"]
    assert (events[-1]["type"], warm["status"], warm["output"]) == ("response.completed", "completed", [])
    assert (warm["instructions"], warm["metadata"], warm["store"]) == ("Be brief.", {"a": "b"}, False)
    assert warm["usage"]["total_tokens"] == 0 and fake_upstream.requests == []
    client.turn("One", previous_response_id=warm["id"])
    assert sent() == ["One"] and "generate" not in json.loads(fake_upstream.requests[0].body)


def test_a_warm_up_may_have_input_and_continue_another_response(connect, sent):
    client = connect()
    first = client.turn("One", store=False)
    warm = client.turn("Prepared", generate=False, previous_response_id=first["id"])
    client.turn("Two", previous_response_id=warm["id"])
    assert sent() == ["One", "Answer.", "Prepared", "Two"]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "nowhere"}, 404, "model_not_found"),
        ({"previous_response_id": "resp_unknown"}, *NOT_FOUND),
        ({"given": 5}, 400, "invalid_type"),
    ],
)
def test_a_warm_up_that_cannot_be_continued_is_refused(connect, fields, status, code):
    connect().refused(status, code, generate=False, **fields)


# ---------------------------------------------------------------------------------------------------------------- size
def test_the_frames_of_a_long_conversation_stay_small(connect, fake_upstream):
    """A hundred turns: the upstream gets the whole history, and the client sends what is new."""
    client, previous, sizes = connect(), {}, []
    for number in range(100):
        frame = {
            "type": "response.create",
            "model": "model-1",
            "store": False,
            "input": f"Turn {number:03}",
            **previous,
        }
        sizes.append(len(json.dumps(frame)))
        client.send(**frame)
        previous = {"previous_response_id": client.receive_until("response.completed")[-1]["response"]["id"]}
    assert max(sizes) < 200
    items = json.loads(fake_upstream.requests[-1].body)["input"]
    assert [item["content"][0]["text"] for item in items[::2]] == [f"Turn {number:03}" for number in range(100)]


def texts_of(count, size=100):
    items = [{"type": "message", "role": "user", "content": f"{number:0{size}}"} for number in range(count)]
    return History(items, [None] * count)


def test_what_has_no_room_is_forgotten():
    cache = HistoryCache(20_000)
    one, other = UnstoredResponses(cache), UnstoredResponses(cache)
    one.remember("resp_1", None, texts_of(10), [], None)
    for number in range(10):
        other.remember(f"resp_{number}", None, texts_of(10), [], None)
    assert one.find("resp_1") is None
    assert other.find("resp_9").packed.unpack().items == texts_of(10).items
    assert cache.size <= 20_000
    other.forget_all()
    assert cache.size == 0 and other.find("resp_9") is None


def test_a_history_that_grows_too_long_is_forgotten_as_a_whole():
    cache = HistoryCache(20_000)
    unstored = UnstoredResponses(cache)
    unstored.remember("resp_0", None, texts_of(1), [], None)
    for number in range(1, 200):
        if (continued := unstored.find(f"resp_{number - 1}")) is None:
            break
        unstored.remember(f"resp_{number}", continued, texts_of(1), [], None)
    assert 10 < number < 199 and cache.size == 0


def test_the_oldest_responses_of_a_connection_are_forgotten():
    unstored = UnstoredResponses(HistoryCache(2**30))
    for number in range(MAX_RESPONSES + 2):
        unstored.remember(f"resp_{number}", None, texts_of(1), [], None)
    assert [unstored.find(f"resp_{number}") is None for number in (0, 1, 2)] == [True, True, False]
    unstored.forget_all()
    assert unstored._cache.size == 0
