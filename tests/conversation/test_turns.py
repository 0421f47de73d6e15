"""Turns over HTTP: what the upstream receives, what is stored, and that a failed turn stores nothing."""

import pytest

from floway_core.testing import Reply, Step, events, items_stream

from .direct_store import assistant, execute, user

NOTHING = [0, 0, 0]


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_by_id(client, stream):
    first = client.turn("One", stream=stream)
    second = client.turn([user("Two")], first.id, stream=stream)
    third = client.turn("Three", second.id, stream=stream)
    assert third.sent == [
        [user("One"), *first.output, user("Two"), *second.output, user("Three")],
    ]
    assert client.rows() == [1, 3, 6]
    assert third.response["previous_response_id"] == second.id
    assert third.response["store"] is True
    (note,) = [note for note in third.notes if note["event"] == "send"]
    assert "previous_response_id" not in note["fields"]


def test_a_continuation_without_input(client):
    first = client.turn("One")
    for given in (None, [], ""):
        assert client.turn(given, first.id).sent == [[user("One"), *first.output]]


def test_an_id_can_be_continued_while_its_stream_is_still_open(client, fake_upstream):
    stream = items_stream([assistant("a")])
    fake_upstream.script(Reply([*stream, Step.HOLD]))
    exchange = client.caller.post(
        {"model": "model-1", "input": "One", "stream": True}, x_test_upstream=fake_upstream.url
    )
    received = exchange.read_until(b"[DONE]")
    response_id = events.parse(received)[-1]["response"]["id"]
    assert client.turn("Two", response_id).sent == [[user("One"), assistant("a"), user("Two")]]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("answer", ["failed", "cut"])
@pytest.mark.parametrize("continued", [False, True])
def test_a_failed_turn_leaves_nothing(client, answer, stream, continued):
    previous = client.turn("One").id if continued else None
    before = client.rows()
    failed = client.ask("Two", previous_response_id=previous, stream=stream, headers={"x-test-answer": answer})
    assert client.rows() == before
    if stream:
        assert failed.body[-1]["type"] == "response.failed"
        assert client.ask("Three", previous_response_id=failed.id).error["code"] == "previous_response_not_found"
        assert client.ask(path=f"/v1/responses/{failed.id}/cancel").status == 404
    else:
        assert failed.status == 502
    if continued:
        assert client.turn("Two", previous).sent[0][0] == user("One")


def test_an_incomplete_response_can_be_continued(client):
    first = client.ask("One", headers={"x-test-answer": "incomplete"}, stream=True)
    assert first.body[-1]["type"] == "response.incomplete"
    assert client.turn("Two", first.id).sent[0][0] == user("One")


def test_a_client_that_hangs_up_leaves_nothing(client, fake_upstream):
    stream = items_stream([assistant("a")])
    fake_upstream.script(Reply([*stream[:-1], Step.HOLD, stream[-1]]))
    exchange = client.caller.post(
        {"model": "model-1", "input": "Hi", "stream": True}, x_test_upstream=fake_upstream.url
    )
    exchange.read_until(b"output_item.done")
    exchange.hang_up()
    request = fake_upstream.wait_for_request()
    assert request.peer_gone.wait(60)
    assert client.rows() == NOTHING


@pytest.fixture
def failing_store(acting):
    """Breaks the store of items half-way for as long as the test runs."""
    database = acting.database
    if database.for_update:
        broken = [
            "CREATE FUNCTION on_fire() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN IF NEW.position = 1 THEN RAISE 'disk on fire'; END IF; RETURN NEW; END $$",
            "CREATE TRIGGER on_fire BEFORE INSERT ON responses_items FOR EACH ROW EXECUTE FUNCTION on_fire()",
        ]
        mended = ["DROP TRIGGER on_fire ON responses_items", "DROP FUNCTION on_fire"]
    else:
        broken = [
            "CREATE TRIGGER on_fire BEFORE INSERT ON responses_items WHEN NEW.position = 1 "
            "BEGIN SELECT RAISE(ABORT, 'disk on fire'); END"
        ]
        mended = ["DROP TRIGGER on_fire"]
    for statement in broken:
        execute(database, statement)
    yield
    for statement in mended:
        execute(database, statement)


def test_a_failed_commit_is_a_failed_turn(client, failing_store):
    whole = client.ask("One")
    assert (whole.status, whole.error["code"], whole.error["type"]) == (503, "storage_failed", "server_error")
    streamed = client.ask("One", stream=True)
    kinds = [event["type"] for event in streamed.body]
    assert kinds[-2:] == ["error", "response.failed"]
    assert "response.completed" not in kinds
    assert streamed.response["status"] == "failed"
    assert streamed.response["error"]["code"] == streamed.body[-2]["code"] == "storage_failed"
    numbers = [event["sequence_number"] for event in streamed.body]
    assert numbers == sorted(set(numbers))
    assert client.rows() == NOTHING
    assert "disk on fire" not in str([whole.body, streamed.body])


def test_the_same_id_can_be_continued_after_a_failed_commit(client, request):
    first = client.turn("One")
    request.getfixturevalue("failing_store")
    assert client.ask("Two", previous_response_id=first.id).status == 503
    assert client.rows() == [1, 1, 2]


def test_store_false_stores_nothing(client):
    first = client.turn("One", store=False)
    streamed = client.turn([user("One"), *first.output, user("Two")], store=False, stream=True)
    assert client.rows() == NOTHING
    assert client.ask("Two", previous_response_id=first.id).status == 400
    assert client.ask([{"id": first.output[0]["id"]}]).status == 404
    assert client.ask([{"id": streamed.output[0]["id"]}]).status == 404
    kept = client.turn("One")
    assert client.turn("Two", kept.id, store=False).sent[0][:2] == [user("One"), *kept.output]
    assert client.rows() == [1, 1, 2]


def test_nobody_can_read_what_another_key_stored(client, client_of, acting):
    other = client_of(acting)
    mine = client.turn("One")
    item = mine.output[0]["id"]
    assert other.ask("Two", previous_response_id=mine.id).status == 400
    assert other.ask([{"type": "item_reference", "id": item}]).status == 404
    assert other.ask([{"id": item}]).status == 404
    assert other.ask(path="/v1/responses/compact", previous_response_id=mine.id).status == 400
    for method, path in (("GET", ""), ("GET", "?stream=true"), ("GET", "/input_items"), ("DELETE", "")):
        assert other.caller.send(method, f"/v1/responses/{mine.id}{path}").status == 404
    assert other.ask(path=f"/v1/responses/{mine.id}/cancel").status == 404
    assert other.turn([user("One"), *mine.output, user("Two")]).commit["previous"] is None
    assert client.turn("Two", mine.id).sent[0][:2] == [user("One"), *mine.output]
