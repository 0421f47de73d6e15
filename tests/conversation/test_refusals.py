"""Ids that cannot be continued get identical errors, at the same cost."""

import pytest

from floway_core.conversation import retention
from floway_core.errors import GatewayError

from .direct_store import Store, assistant, execute

ODD = ["resp_" + "0" * 32, "resp_1", "x", "a\0b", "\ud83d", "ü" * 300, "msg_a", "../x"]


@pytest.fixture
def refused_ids(store):
    """One id of each kind."""
    other = Store(store.database)
    foreign = other.turn("Hi", assistant("a"))
    deleted = store.turn("Hi", assistant("a"))
    retention.delete_response(store.database, store.snapshot(deleted))
    kept_for_its_child = store.turn("Hi", assistant("a"))
    store.turn("More", assistant("b"), previous=kept_for_its_child)
    retention.delete_response(store.database, store.snapshot(kept_for_its_child))
    expired = store.turn("Hi", assistant("a"))
    row = store.snapshot(expired).conversation
    store.execute("UPDATE responses_conversations SET used_at = 5 WHERE id = ?", row)
    return [foreign, deleted, kept_for_its_child, expired, *ODD]


def test_refusals_are_alike_and_cost_the_same(store, refused_ids, queries):
    costs = set()
    for refused in refused_ids:
        del queries[:]
        with pytest.raises(GatewayError) as caught:
            store.begin("More", refused)
        costs.add(tuple(queries))
        assert caught.value.status == 400
        assert caught.value.body() == {
            "error": {
                "message": f"Previous response with id '{refused}' not found.",
                "type": "invalid_request_error",
                "param": "previous_response_id",
                "code": "previous_response_not_found",
            }
        }
    (statements,) = costs
    assert len(statements) == 1


def test_refused_references_cost_the_same(store, refused_ids, queries):
    costs = set()
    for refused in refused_ids:
        del queries[:]
        with pytest.raises(GatewayError):
            store.begin([{"id": refused}])
        costs.add(tuple(queries))
    (statements,) = costs
    assert len(statements) == 1


def test_the_bytes_of_the_refusals(client, client_of, acting):
    foreign = client_of(acting).turn("Hi").id
    deleted = client.turn("Hi").id
    assert client.caller.send("DELETE", f"/v1/responses/{deleted}").status == 200
    expired = client.turn("Hi").id
    mine = "(SELECT conversation_id FROM responses_snapshots WHERE response_id = ?)"
    execute(acting.database, f"UPDATE responses_conversations SET used_at = 5 WHERE id IN {mine}", expired)
    bodies, heads = set(), set()
    for refused in (foreign, deleted, expired, *ODD):
        for stream in (False, True):
            body = {"model": "model-1", "input": "More", "previous_response_id": refused, "stream": stream}
            exchange = client.caller.post(body)
            assert exchange.status == 400
            assert refused == exchange.json()["error"]["message"].split("'")[1]
            escaped = exchange.received
            start, end = escaped.index(b"'"), escaped.rindex(b"'")
            bodies.add(escaped[:start] + escaped[end:])
            heads.add(tuple(name for name, _ in exchange.headers.items()))
    assert bodies == {
        b'{"error":{"message":"Previous response with id \' not found.","type":"invalid_request_error",'
        b'"param":"previous_response_id","code":"previous_response_not_found"}}'
    }
    assert len(heads) == 1
