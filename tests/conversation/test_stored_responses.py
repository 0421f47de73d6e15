"""Reading, replaying, paging, cancelling and deleting what was stored."""

from urllib.parse import quote

import pytest

from .direct_store import assistant, user


def get(client, path, status=200):
    exchange = client.caller.send("GET", f"/v1/responses/{path}")
    assert exchange.status == status, exchange.body
    return exchange


def delete(client, response_id, status=200):
    exchange = client.caller.send("DELETE", f"/v1/responses/{response_id}")
    assert exchange.status == status, exchange.body
    return exchange.json()


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_is_read_as_it_was_told(client, stream):
    first = client.turn("One", stream=stream)
    second = client.turn("Two", first.id, stream=stream)
    assert get(client, first.id).json() == first.response
    assert get(client, second.id).json() == second.response


def test_a_replay_ends_in_the_same_response(client):
    output = [
        assistant("a"),
        {"type": "function_call", "id": "fc_1", "name": "f", "arguments": "{}", "call_id": "c", "status": "completed"},
        {"type": "new_kind", "id": "new_1", "data": {"x": 1}},
    ]
    told = client.turn("One", output=output)
    replay = get(client, f"{told.id}?stream=true")
    assert replay.headers.get_content_type() == "text/event-stream"
    events = replay.events()
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed" and events[-1]["response"] == told.response
    assert replay.received.endswith(b"data: [DONE]\n\n")
    closed = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert closed == output
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert deltas == ["a"]
    for after in (0, 3, len(events) - 2, len(events) - 1, 10_000):
        rest = get(client, f"{told.id}?stream=true&starting_after={after}").events()
        assert rest == events[after + 1 :]


def test_a_replay_tells_every_part(client):
    """Clients that only add up what comes bit by bit get all of it."""
    summary, text = {"type": "summary_text", "text": "Short."}, {"type": "reasoning_text", "text": "At length."}
    output = [
        {"type": "reasoning", "id": "rs_1", "summary": [summary, summary], "content": [text], "encrypted_content": "x"},
        {
            "type": "custom_tool_call",
            "id": "ctc_1",
            "name": "g",
            "input": "text",
            "call_id": "c",
            "status": "completed",
        },
        assistant("a"),
    ]
    events = get(client, f"{client.turn('One', output=output).id}?stream=true").events()
    deltas = [(event["type"], event["output_index"], event["delta"]) for event in events if "delta" in event]
    assert deltas == [
        ("response.reasoning_summary_text.delta", 0, "Short."),
        ("response.reasoning_summary_text.delta", 0, "Short."),
        ("response.reasoning_text.delta", 0, "At length."),
        ("response.custom_tool_call_input.delta", 1, "text"),
        ("response.output_text.delta", 2, "a"),
    ]
    assert [event["summary_index"] for event in events if "summary_index" in event] == [0] * 4 + [1] * 4
    announced = [event["part"] for event in events if event["type"] == "response.content_part.added"]
    assert announced[0] == {**text, "text": ""} and len(announced) == 2
    begun = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    assert begun[0] == {**output[0], "summary": [], "content": []}
    assert begun[1] == {**output[1], "input": "", "status": "in_progress"}
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == output


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "٣", "9" * 20, ""])
def test_a_replay_from_nowhere(client, after):
    told = client.turn("One")
    exchange = client.caller.send("GET", f"/v1/responses/{told.id}?stream=true&starting_after={quote(after)}")
    assert exchange.status == 400 and exchange.json()["error"]["param"] == "starting_after"


def test_input_items(client):
    first = client.turn("One")
    given = [user("Two"), {**user("Three"), "id": "msg_mine"}]
    second = client.turn(given, first.id)
    listed = get(client, f"{second.id}/input_items?order=asc").json()
    assert listed["object"] == "list" and listed["has_more"] is False
    items = listed["data"]
    assert all(item["id"] for item in items)
    assert [item["content"] for item in items] == [
        item["content"] for item in [user("One"), *first.output, user("Two"), user("Three")]
    ]
    assert items[1] == first.output[0] and items[3] == {**given[1], "status": "completed"}
    assert get(client, f"{second.id}/input_items").json()["data"] == items[::-1]
    assert get(client, f"{first.id}/input_items").json()["data"] == items[:1]
    assert (listed["first_id"], listed["last_id"]) == (items[0]["id"], items[-1]["id"])
    assert client.turn([{"id": items[0]["id"]}]).sent == [[user("One")]], "the ids can be referred to"


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("user", {"type": "input_text", "text": "Hi"}),
        ("developer", {"type": "input_text", "text": "Hi"}),
        ("assistant", {"type": "output_text", "text": "Hi", "annotations": []}),
    ],
)
def test_messages_in_short_form_are_listed_in_full(client, role, part):
    """As the SDKs read them."""
    told = client.turn([{"role": role, "content": "Hi"}])
    assert told.sent == [[{"role": role, "content": "Hi"}]]
    [item] = get(client, f"{told.id}/input_items").json()["data"]
    assert item.pop("id").startswith("msg_")
    assert item == {"type": "message", "role": role, "status": "completed", "content": [part]}


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_input_items_page_by_page(client, order, limit):
    told = client.turn([user(str(number)) for number in range(13)])
    whole = get(client, f"{told.id}/input_items?order={order}&limit=100").json()["data"]
    assert len(whole) == 13
    pages, after = [], ""
    while True:
        page = get(client, f"{told.id}/input_items?order={order}&limit={limit}{after}").json()
        pages += page["data"]
        assert len(page["data"]) <= limit
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert pages == whole


def test_no_input_items(client):
    listed = get(client, f"{client.turn([]).id}/input_items").json()
    assert listed == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("order=up", "order"), ("after=no", "after")],
)
def test_paging_that_makes_no_sense(client, query, param):
    exchange = get(client, f"{client.turn('One').id}/input_items?{query}", 400)
    assert exchange.json()["error"]["param"] == param


def test_deleting(client):
    first = client.turn("One")
    second = client.turn("Two", first.id)
    assert delete(client, first.id) == {"id": first.id, "object": "response", "deleted": True}
    delete(client, first.id, 404)
    get(client, first.id, 404)
    get(client, f"{first.id}/input_items", 404)
    assert client.ask("x", previous_response_id=first.id).error["code"] == "previous_response_not_found"
    assert client.ask([{"id": first.output[0]["id"]}]).status == 404
    assert client.turn("Three", second.id).sent[0][:2] == [user("One"), *first.output]


def test_what_is_deleted_is_gone_when_nobody_needs_it(client):
    root = client.turn("One")
    left, right = client.turn("left", root.id), client.turn("right", root.id)
    last = client.turn("last", left.id)
    for response_id, rows in ((root.id, [1, 4, 8]), (left.id, [1, 4, 8]), (last.id, [1, 2, 4]), (right.id, [0, 0, 0])):
        delete(client, response_id)
        assert client.rows() == rows


def test_a_response_cannot_be_cancelled(client):
    told = client.turn("One")
    refused = client.ask(path=f"/v1/responses/{told.id}/cancel")
    assert (refused.status, refused.error["param"]) == (400, "response_id")
    assert get(client, told.id).json() == told.response


@pytest.mark.parametrize("odd", ["resp_0", "%00", "%ED%A0%BD", "a%2Fb", "x" * 3000])
def test_a_response_that_is_not_there(client, odd):
    for method, path in (("GET", ""), ("GET", "?stream=true"), ("GET", "/input_items"), ("DELETE", "")):
        exchange = client.caller.send(method, f"/v1/responses/{odd}{path}")
        assert exchange.status == 404, exchange.body
        assert exchange.json()["error"]["type"] == "invalid_request_error"


def test_what_was_compacted_can_be_deleted(client):
    """A compaction takes the place of the history, so it needs none of it."""
    root = client.turn("One")
    old = client.turn("Two", root.id)
    blob = {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"}
    compacted = client.turn([{"type": "compaction_trigger"}], old.id, output=[blob])
    later = client.turn("Three", compacted.id)
    for response_id, rows in ((root.id, [1, 4, 7]), (old.id, [1, 2, 3]), (compacted.id, [1, 2, 3])):
        delete(client, response_id)
        assert client.rows() == rows
    assert client.turn("Four", later.id, store=False).sent == [[blob, user("Three"), *later.output, user("Four")]]
    delete(client, later.id)
    assert client.rows() == [0, 0, 0]
