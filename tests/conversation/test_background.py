"""Background responses: polled, followed and resumed, on every worker; and what ends them."""

import json
import time

import openai
import pytest

from floway_core.conversation import background
from floway_core.storage.db import select
from floway_core.testing import Reply, Step, events, message_stream

from .background_client import create, follow, numbers, read, wait_for
from .direct_store import assistant, execute, user

RUNNING = ("queued", "in_progress")


def test_it_ends_if_reading_the_answer_raises_an_exception(acting, client, fake_upstream):
    """Nobody else could end it: it has no client."""
    fake_upstream.script(Reply(message_stream("answer")))
    created = create(client, fake_upstream, headers={"x-test-answer": "faulty"})
    assert wait_for(client, created.json()["id"], "failed")["output"] == []
    assert acting.gateway.wait_for_log("The plugin of upstream first failed in ResponseBody.read")


def test_it_is_polled(client, held):
    exchange = create(client, held, metadata={"a": "b"}, instructions="Be brief.", temperature=0.5)
    told = exchange.json()
    assert exchange.status == 200 and told["status"] == "queued" and told["background"] is True
    assert told["id"].startswith("resp_") and told["output"] == [] and told["metadata"] == {"a": "b"}
    assert (told["instructions"], told["temperature"], told["store"]) == ("Be brief.", 0.5, True)
    sent = json.loads(held.wait_for_request().body)
    assert "background" not in sent and sent["stream"] is True
    running = wait_for(client, told["id"], "in_progress")
    assert running == {**told, "status": "in_progress"}
    assert client.ask("on", previous_response_id=told["id"]).error["code"] == "previous_response_not_found"
    held.release.set()
    done = wait_for(client, told["id"], "completed")
    assert done["output"] and done["background"] is True and done["id"] == told["id"]
    assert client.turn("two", told["id"]).sent[0][0]["content"][0]["text"] == "one"


@pytest.mark.parametrize(
    "data", ["[1]", "5", '"x"', "null", "no JSON", "[DONE", '{"type":["x"],"sequence_number":true}']
)
def test_odd_events_of_the_upstream_do_not_end_it(client, fake_upstream, data):
    first, *rest = message_stream("answer")
    fake_upstream.script(Reply([first, b"data: %b\n\n" % data.encode(), *rest]))
    created = create(client, fake_upstream, stream=True).events()[0]["response"]
    told = wait_for(client, created["id"], "completed", "failed")
    assert told["status"] == "completed" and "answer" in json.dumps(told["output"])
    followed = follow(client, told["id"]).events()
    assert followed[-1]["response"]["status"] == "completed"
    assert numbers(followed) == sorted(set(numbers(followed)))


def test_the_openai_package(acting, client, held):
    key = client.caller.headers["authorization"].removeprefix("Bearer ")
    headers = {"x-test-upstream": held.url}
    base_url = f"{acting.gateway.url}/v1"
    with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=20, default_headers=headers) as api:
        stream = api.responses.create(model="model-1", input="one", background=True, stream=True)
        first = next(stream)
        assert first.type == "response.created" and first.response.background
        stream.close()
        response_id = first.response.id
        assert api.responses.retrieve(response_id).status in RUNNING
        resumed = api.responses.retrieve(response_id, stream=True, starting_after=first.sequence_number)
        second = next(resumed)
        held.release.set()
        rest = [second, *resumed]
        assert rest[-1].type == "response.completed" and rest[-1].response.output_text == "answer"
        assert numbers([event.model_dump() for event in rest]) == list(range(1, len(rest) + 1))
        assert api.responses.retrieve(response_id).output_text == "answer"

        held.release.clear()
        begun, *ending = message_stream("never")
        held.script(Reply([begun, Step.HOLD, *ending]))
        running = api.responses.create(model="model-1", input="one", background=True)
        request = held.wait_for_request(2)
        assert request.held.wait(60)
        assert api.responses.cancel(running.id).status == "cancelled"
        assert request.peer_gone.wait(60), "the upstream is stopped"
        assert api.responses.retrieve(running.id).status == "cancelled"
        assert api.responses.cancel(running.id).status == "cancelled"


@pytest.mark.parametrize("after", [None, 0, 2])
def test_it_is_followed_by_several(client, held, after):
    creator = create(client, held, stream=True)
    creator.read_until(b"response.created")
    response_id = events.parse(creator.received[: creator.received.rfind(b"\n\n") + 2])[0]["response"]["id"]
    others = [follow(client, response_id, after) for _ in range(3)]
    creator.hang_up()
    held.release.set()
    streams = [other.body for other in others]
    told = [events.parse(body) for body in streams]
    assert told == [told[0]] * 3 and all(body.endswith(b"data: [DONE]\n\n") for body in streams)
    first = 0 if after is None else after + 1
    assert numbers(told[0]) == list(range(first, first + len(told[0])))
    assert told[0][-1]["type"] == "response.completed"
    done = read(client, response_id)
    assert told[0][-1]["response"] == done
    # after its end, too: with the numbers of the original stream
    assert events.parse(follow(client, response_id, 3).body) == [e for e in told[0] if e["sequence_number"] > 3]
    assert events.parse(follow(client, response_id, 10_000).body) == []


def test_upstreams_without_sequence_numbers(client, fake_upstream):
    stripped = [
        b"event: %s\ndata: %s\n\n" % (name.encode(), json.dumps({**content, "sequence_number": None}).encode())
        for block in message_stream("answer")
        for name, content in [(event["type"], event) for event in events.parse(block)]
    ]
    fake_upstream.script(Reply(stripped))
    told = create(client, fake_upstream, stream=True).events()
    assert numbers(told) == list(range(len(told))) and told[-1]["type"] == "response.completed"


@pytest.mark.parametrize("number", [True, 2**31, 2**63, 2**64 - 1, -(2**63), 1.5, "7", None, [1]])
def test_odd_sequence_numbers_are_replaced(client, held, fake_upstream, number):
    """One that no database stores would also keep the events of all other responses of the worker from being stored."""
    other = create(client, held, stream=True, input="other")
    held.wait_for_request().held.wait(60)
    sent = [
        sse_event | ({"sequence_number": number} if position > 1 else {})
        for position, sse_event in enumerate(events.parse(b"".join(message_stream("answer"))))
    ]
    odd = Reply([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in sent])
    fake_upstream.script(odd)
    told = create(client, fake_upstream, stream=True).events()
    assert [event["type"] for event in told] == [event["type"] for event in sent]
    assert numbers(told) == sorted(set(numbers(told))) and all(type(one) is int for one in numbers(told))
    after = numbers(told)[-3]
    assert follow(client, told[0]["response"]["id"], after).events() == told[-2:]
    held.release.set()
    assert [event["type"] for event in other.events()] == [event["type"] for event in sent]


def test_one_without_a_stream_cannot_be_followed_until_it_has_ended(client, held):
    told = create(client, held).json()
    error = read(client, told["id"], 400, "?stream=true")["error"]
    assert error["param"] == "stream"
    held.release.set()
    wait_for(client, told["id"], "completed")
    assert events.parse(follow(client, told["id"]).body)[-1]["response"]["status"] == "completed"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"x-test-answer": "failed"}, "failed", "server_error"),
        ({"x-test-answer": "cut"}, "failed", "upstream_disconnected"),
        ({"x-test-refuse": '{"first": 400}'}, "failed", "upstream_refused"),
        ({"x-test-refuse": '{"first": "network"}'}, "failed", "upstream_unreachable"),
        ({"x-test-commit": "refuse"}, "failed", "owner_refuses"),
        ({"x-test-commit": "fault"}, "failed", "internal_error"),
        ({"x-test-answer": "incomplete"}, "incomplete", None),
    ],
)
def test_every_end_is_told(client, stream, headers, status, code):
    exchange = create(client, stream=stream, headers=headers)
    if stream:
        told = exchange.events()
        assert told[-1]["type"] == f"response.{status}"
        assert numbers(told) == sorted(set(numbers(told)))
        response_id = told[-1]["response"]["id"]
    else:
        response_id = exchange.json()["id"]
    done = wait_for(client, response_id, "failed", "incomplete", "completed")
    assert done["status"] == status
    assert (done.get("error") or {}).get("code") == code
    if stream:
        assert told[-1]["response"] == done
    if status == "failed":
        assert client.rows() == [0, 0, 0]


def test_what_is_wrong_is_told_at_once(client):
    for fields, status, code in (
        ({"store": False}, 400, "mutually_exclusive_parameters"),
        ({"background": "yes"}, 400, "invalid_type"),
        ({"model": "nothing"}, 404, "model_not_found"),
        ({"previous_response_id": "resp_0"}, 400, "previous_response_not_found"),
        ({"conversation": "conv_0"}, 404, None),
    ):
        exchange = create(client, **fields)
        assert exchange.status == status and exchange.json()["error"]["code"] == code
    assert select(client.database, "SELECT count(*) FROM background_responses b JOIN api_keys k ON k.id = b.api_key_id "
                  "WHERE k.key_hash = ?", client.key_hash) == [(0,)]  # fmt: skip


def test_in_a_conversation(client, held):
    body = json.dumps({"items": [user("zero")]}).encode()
    conversation = client.caller.send("POST", "/v1/conversations", body).json()["id"]
    told = create(client, held, conversation=conversation).json()
    assert told["conversation"] == {"id": conversation}
    assert create(client, held, conversation=conversation).json()["error"]["code"] == "conversation_locked"
    held.release.set()
    wait_for(client, told["id"], "completed")
    assert client.turn("two", conversation=conversation, output=[assistant("2")])
    items = client.caller.send("GET", f"/v1/conversations/{conversation}/items?order=asc").json()["data"]
    assert [item["content"][0]["text"] for item in items] == ["zero", "one", "answer", "two", "2"]


def test_a_worker_that_died_leaves_no_response_in_progress(client, held, acting):
    response_id = create(client, held, stream=True)
    response_id.read_until(b"response.created")
    received = response_id.received
    response_id = events.parse(received[: received.rfind(b"\n\n") + 2])[0]["response"]["id"]
    wait_for(client, response_id, "in_progress")
    # as if time had passed without its worker
    execute(acting.database, "UPDATE turn_leases SET expires_at = 1 WHERE id = ?", background.lease_id(response_id))
    told = read(client, response_id)
    assert told["status"] == "failed" and told["error"]["code"] == "server_error"
    last = follow(client, response_id).events()[-1]
    assert last["type"] == "response.failed" and last["response"] == told
    held.release.set()  # what the worker does nevertheless is not stored
    acting.gateway.wait_for_log(f"BACKGROUND /v1/responses 200")  # noqa: F541
    assert read(client, response_id) == told


def test_events_are_kept_for_an_hour(client, acting):
    told = create(client, stream=True).events()
    response_id = told[-1]["response"]["id"]
    ended = int(time.time()) - background.EVENT_RETENTION_SECONDS - 1
    execute(acting.database, "UPDATE background_responses SET ended_at = ? WHERE response_id = ?", ended, response_id)
    background.sweep(acting.database, 0)
    assert follow(client, response_id).events()[-1]["response"] == told[-1]["response"]
    assert read(client, response_id) == told[-1]["response"]
    row = "SELECT id FROM background_responses WHERE response_id = ?"
    sql = f"SELECT count(*) FROM background_events WHERE background_id = ({row})"
    assert select(acting.database, sql, response_id) == [(0,)]
    background.sweep(acting.database, int(time.time()) + 1)
    assert select(acting.database, row, response_id) == []
    assert read(client, response_id) == told[-1]["response"]


def test_other_keys_see_nothing(client, client_of, acting, held):
    response_id = create(client, held).json()["id"]
    other = client_of(acting)
    for method, path in (("GET", ""), ("GET", "?stream=true"), ("DELETE", ""), ("POST", "/cancel")):
        answers = []
        for tried in (response_id, "resp_" + "0" * 32):
            exchange = other.caller.send(method, f"/v1/responses/{tried}{path}")
            answers.append((exchange.status, exchange.body.replace(tried.encode(), b"")))
        assert answers[0] == answers[1] and answers[0][0] == 404
    held.release.set()
    wait_for(client, response_id, "completed")


def test_usage_and_log_are_of_the_response(client, acting, held):
    exchange = create(client, held)
    response_id, request_id = exchange.json()["id"], exchange.headers["x-request-id"]
    assert "usage" in exchange.json()
    first = acting.gateway.wait_for_log(f"id={request_id} ")
    assert len(first) == 1 and "POST /v1/responses 200" in first[0] and "upstream=- " in first[0]
    start = len(acting.gateway.log)
    held.release.set()
    wait_for(client, response_id, "completed")
    (line,) = acting.gateway.wait_for_log(f"id={request_id} ", start)
    assert "BACKGROUND /v1/responses 200" in line and "upstream=first" in line and "outcome=completed" in line


def test_two_workers_and_many_readers(start_acting, new_database, client_of, fake_upstream):
    """Whatever worker has it: each reader gets every event once, and cancelling works from everywhere."""
    acting = start_acting(new_database(), workers="2")
    client = client_of(acting)
    first, *rest = message_stream("answer")
    fake_upstream.script(*[Reply([first, Step.HOLD, *rest])] * 6)
    ids = [create(client, fake_upstream, stream=True) for _ in range(6)]
    for exchange in ids:
        exchange.read_until(b"response.created")
    ids = [
        events.parse(exchange.received[: exchange.received.rfind(b"\n\n") + 2])[0]["response"]["id"] for exchange in ids
    ]
    readers = [(response_id, follow(client, response_id)) for response_id in ids[:5] for _ in range(4)]
    cancelled = [client.caller.send("POST", f"/v1/responses/{ids[5]}/cancel").json()["status"] for _ in range(4)]
    assert cancelled == ["cancelled"] * 4
    deadline = time.monotonic() + 60
    while not any(request.peer_gone.is_set() for request in fake_upstream.requests):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    fake_upstream.release.set()
    for response_id, reader in readers:
        told = reader.events()
        assert numbers(told) == list(range(len(told)))
        assert told[-1]["type"] == "response.completed" and told[-1]["response"]["id"] == response_id
