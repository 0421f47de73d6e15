"""Which upstream serves a conversation, and which is tried when one refuses."""

import pytest

from .direct_store import assistant, user

REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "reasoning of {}"}
COMPACTION = {"type": "compaction", "id": "cmp_1", "encrypted_content": "compaction of {}"}


def sealed(item, by):
    return {**item, "id": f"{item['id']}_{by}", "encrypted_content": item["encrypted_content"].format(by)}


def unavailable(answer):
    assert (answer.status, answer.error["code"]) == (400, "responses_item_routing_unavailable")
    assert (answer.error["type"], answer.error["param"]) == ("invalid_request_error", "input")
    assert answer.tried == []
    return answer.error["message"]


def without_id(item):
    """As another upstream than the issuer gets it."""
    return {name: value for name, value in item.items() if name != "id"}


@pytest.fixture
def by_second(client):
    """A conversation whose reasoning only the second upstream can read."""
    return client.turn("One", model="model-2", output=[sealed(REASONING, "second"), assistant("a")])


def test_the_first_in_order_serves_what_nobody_issued(client):
    assert client.turn("One", model="both").tried == ["first"]


def test_the_issuer_is_preferred(client, by_second):
    told = client.turn("Two", by_second.id, model="both")
    assert told.tried == ["second"]
    assert told.sent == [[user("One"), *by_second.output, user("Two")]]


def test_the_latest_issuer_is_preferred(client, by_second):
    later = client.turn("Two", by_second.id, model="model-1", output=[sealed(REASONING, "first")])
    assert client.turn("Three", later.id, model="both").tried == ["first"]


def test_others_do_not_get_its_reasoning(client, by_second):
    told = client.turn("Two", by_second.id, model="model-1")
    assert told.tried == ["first"]
    assert told.sent == [[user("One"), without_id(assistant("a")), user("Two")]]
    back = client.turn("Three", told.id, model="model-2")
    assert back.sent[0][:3] == [user("One"), *by_second.output], "it is still there for its issuer"


@pytest.mark.parametrize("drop", [[], ["id"], ["id", "summary"]])
@pytest.mark.parametrize("store", [True, False])
def test_reasoning_is_known_by_its_blob(client, by_second, drop, store):
    reasoning = {name: value for name, value in sealed(REASONING, "second").items() if name not in drop}
    given = [user("One"), reasoning, assistant("a"), user("Two")]
    assert client.turn(given, model="both", store=store).tried == ["second"]
    assert client.turn(given, model="model-1", store=store).sent == [[user("One"), assistant("a"), user("Two")]]


def test_reasoning_is_known_by_its_id_where_only_that_is_left(client, by_second):
    given = [user("One"), {"type": "reasoning", "id": "rs_1_second", "summary": []}, assistant("a"), user("Two")]
    assert client.turn(given, model="both").tried == ["second"]
    assert client.turn(given, model="model-1").sent == [[user("One"), assistant("a"), user("Two")]]


def test_a_reference_brings_its_issuer_along(client, by_second):
    told = client.turn([{"id": "rs_1_second"}, user("Two")], model="both")
    assert told.tried == ["second"]


REFERENCES = [{"type": "item_reference", "id": "rs_1_second"}, {"type": "item_reference", "id": "msg_a"}]


@pytest.mark.parametrize("refers", [False, True])
@pytest.mark.parametrize("previous", [False, True])
def test_the_issuers_of_what_a_client_sends_are_stored_with_it(client, by_second, refers, previous):
    """The history is another one, but the reasoning in it is still that of the upstream that issued it."""
    said = REFERENCES if refers else by_second.output
    given = [user("Something else"), *said, user("Two")]
    before = client.turn("Zero", model="model-2", output=[assistant("0")]).id if previous else None
    other = client.turn(given, before, model="model-2", output=[assistant("b")])
    assert client.turn("Three", other.id, model="both").tried == ["second"]
    (sent,) = client.turn("Three", other.id, model="model-1").sent
    assert [item for item in sent if item.get("type") == "reasoning"] == []
    (sent,) = client.turn("Three", other.id, model="model-2").sent
    assert sent[-5:-2] == [*by_second.output, user("Two")]


def test_the_issuer_of_a_compaction_in_another_history_is_stored_with_it(client):
    compacted = sealed(COMPACTION, "second")
    client.turn([user("One"), {"type": "compaction_trigger"}], model="model-2", output=[compacted])
    other = client.turn([user("Before"), compacted, user("Two")], model="both")
    assert other.tried == ["second"]
    unavailable(client.ask("Three", model="model-1", previous_response_id=other.id))
    assert client.turn("Three", other.id, model="both").tried == ["second"]


def test_only_the_issuer_of_the_compaction_decides(client, compacted_by_second):
    """Reasoning of another upstream in front of it is left out."""
    other = client.turn("Zero", model="model-1", output=[sealed(REASONING, "first")])
    told = client.turn([*other.output, *compacted_by_second.output, user("Two")], model="both")
    assert told.tried == ["second"] and told.sent == [[*compacted_by_second.output, user("Two")]]


def test_an_unknown_blob_goes_to_anybody(client):
    given = [sealed(REASONING, "a stranger"), sealed(COMPACTION, "a stranger"), user("One")]
    told = client.turn(given, model="both")
    assert told.tried == ["first"] and told.sent == [given]


def test_blobs_of_another_key_are_unknown(client, client_of, acting, by_second):
    given = [sealed(REASONING, "second"), user("One")]
    assert client_of(acting).turn(given, model="both").tried == ["first"]


@pytest.fixture
def compacted_by_second(client):
    trigger = [user("One"), {"type": "compaction_trigger"}]
    return client.turn(trigger, model="model-2", output=[sealed(COMPACTION, "second")])


def test_a_compaction_binds(client, compacted_by_second):
    told = client.turn("Two", compacted_by_second.id, model="both")
    assert told.tried == ["second"]
    assert told.sent == [[*compacted_by_second.output, user("Two")]]
    assert "does not serve" in unavailable(
        client.ask("Two", previous_response_id=compacted_by_second.id, model="model-1")
    )
    given = [{"type": "compaction", "encrypted_content": "compaction of second"}, user("Two")]
    assert client.turn(given, model="both").tried == ["second"]
    unavailable(client.ask(given, model="model-3", store=False))


def test_a_bound_conversation_goes_nowhere_else(client, compacted_by_second):
    asked = {"previous_response_id": compacted_by_second.id, "model": "both"}
    refused = client.ask("Two", headers={"x-test-refuse": '{"second": 500}'}, **asked)
    assert (refused.status, refused.tried) == (500, ["second"])


def test_two_compactions_of_two_upstreams(client, compacted_by_second):
    trigger = [user("One"), {"type": "compaction_trigger"}]
    by_first = client.turn(trigger, output=[sealed(COMPACTION, "first")])
    given = [*by_first.output, *compacted_by_second.output, user("Two")]
    assert "several" in unavailable(client.ask(given, model="both"))


PASSING = [408, 500, 502, 503, 599, "network"]


@pytest.mark.parametrize("status", PASSING)
@pytest.mark.parametrize("stream", [False, True])
def test_anybody_may_help_when_an_upstream_fails(client, status, stream):
    refuse = f'{{"first": {status if status != "network" else chr(34) + status + chr(34)}}}'
    told = client.turn("One", model="both", stream=stream, headers={"x-test-refuse": refuse})
    assert told.tried == ["first", "second"]
    assert told.sent == [[user("One")]] * 2, "each gets its own copy"


@pytest.mark.parametrize("status", [401, 403, 429])
def test_an_account_is_not_replaced_by_another_of_the_same_provider(client, status):
    told = client.turn("One", model="both", headers={"x-test-refuse": f'{{"first": {status}}}'})
    assert told.tried == ["first", "third"]
    refused = client.ask("One", model="both", headers={"x-test-refuse": f'{{"first": {status}, "third": 400}}'})
    assert (refused.status, refused.tried) == (400, ["first", "third"])


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
def test_a_request_that_is_at_fault_is_tried_once(client, status):
    refused = client.ask("One", model="both", headers={"x-test-refuse": f'{{"first": {status}}}'})
    assert (refused.status, refused.tried) == (status, ["first"])


def test_the_last_refusal_is_relayed(client):
    refused = client.ask("One", model="both", headers={"x-test-refuse": '{"first": 500, "second": 503, "third": 429}'})
    assert (refused.status, refused.tried) == (429, ["first", "second", "third"])
    assert client.rows() == [0, 0, 0]


def test_nobody_helps_once_the_client_has_content(client):
    failed = client.ask("One", model="both", stream=True, headers={"x-test-answer": "cut"})
    assert failed.tried == ["first"]
    failed = client.ask("One", model="both", headers={"x-test-answer": "cut"})
    assert failed.tried == ["first", "second", "third"], "who does not stream has been sent nothing"


def test_a_foreign_candidate_gets_no_reasoning_on_the_second_try(client, by_second):
    told = client.turn("Two", by_second.id, model="both", headers={"x-test-refuse": '{"second": 500}'})
    assert told.tried == ["second", "first"]
    assert told.sent == [
        [user("One"), *by_second.output, user("Two")],
        [user("One"), without_id(assistant("a")), user("Two")],
    ]
    again = client.turn("Three", told.id, model="model-2")
    assert again.sent[0][:3] == [user("One"), *by_second.output]
