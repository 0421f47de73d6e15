"""Compaction: by the upstream or by a summary, by its own route or by a trigger; the history starts anew."""

import base64
import json

import pytest

from .direct_store import assistant, user

TRIGGER = {"type": "compaction_trigger"}
SEALED = {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"}
COMPACT = "/v1/responses/compact"


def compacted(client, how, previous=None, given=None, output=None, **options):
    """Compact in one of the ways, and return the answer."""
    if previous:
        options["previous_response_id"] = previous
    if how == "route":
        answer = client.ask(given, path=COMPACT, output=output, **options)
    else:
        given = [user(given)] if isinstance(given, str) else given or []
        answer = client.ask([*given, TRIGGER], output=output, stream=how == "stream", **options)
    assert answer.status == 200, answer.body
    return answer


WAYS = ["route", "whole", "stream"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", ["compaction", "compaction_summary"])
def test_by_the_upstream(client, how, kind):
    blob = {**SEALED, "type": kind}
    first = client.turn("One")
    answer = compacted(client, how, first.id, "Last", [blob])
    assert answer.output == [blob]
    assert answer.sent == [[user("One"), *first.output, user("Last"), TRIGGER]]
    assert answer.commit["mode"] == "replace"
    assert client.rows() == [1, 2, 3], "neither the trigger nor what it replaced"
    later = client.turn("Two", answer.id)
    assert later.sent == [[blob, user("Two")]]
    assert client.turn("Three", later.id).sent == [[blob, user("Two"), *later.output, user("Three")]]
    assert client.turn("Two", first.id).sent[0][:2] == [user("One"), *first.output], "a fork of the old history"


def test_the_form_of_the_routes_answer(client):
    answer = client.ask("One", path=COMPACT, output=[SEALED])
    assert set(answer.body) == {"id", "object", "created_at", "output", "usage"}
    assert answer.body["object"] == "response.compaction"
    assert answer.body["usage"]["input_tokens"] == 7


@pytest.mark.parametrize("how", WAYS)
def test_by_a_summary(client, how):
    first = client.turn("One", model="model-3")
    summary = "  The user said One.  "
    answer = compacted(
        client, how, first.id, "Last", [assistant(summary)], model="model-3", tools=[], instructions="Be."
    )
    ((*history, request),) = answer.sent
    assert history == [user("One"), *first.output, user("Last")]
    assert request["role"] == "user" and "handover" in request["content"][0]["text"]
    (note,) = [note for note in answer.notes if note["event"] == "send"]
    assert "tools" not in note["fields"] and "instructions" in note["fields"]
    (item,) = answer.output
    assert item["type"] == "compaction" and item["id"].startswith("cmp_")
    (inside,) = json.loads(base64.urlsafe_b64decode(item["encrypted_content"].removeprefix("floway1.")))
    assert inside["content"][0]["text"].endswith("\n\nThe user said One.")
    assert answer.commit["mode"] == "replace"
    for model in ("model-3", "model-1"):
        later = client.turn("Two", answer.id, model=model)
        assert later.sent == [[inside, user("Two")]], "anybody can read it"
    assert client.turn([item, user("Two")], model="both").tried == ["first"]


@pytest.mark.parametrize("how", WAYS)
def test_a_summary_that_is_compacted_again(client, how):
    once = compacted(client, how, None, "One", [assistant("first summary")], model="model-3")
    twice = compacted(client, how, once.id, "Two", [assistant("second summary")], model="model-3")
    assert "first summary" in json.dumps(twice.sent)
    told = json.dumps(client.turn("Three", twice.id).sent)
    assert "second summary" in told and "first summary" not in told


@pytest.mark.parametrize("how", ["route", "whole"])
@pytest.mark.parametrize(
    ("model", "output"), [("model-1", [assistant("No.")]), ("model-3", [assistant(" ")]), ("model-3", [])]
)
def test_an_upstream_that_does_not_compact(client, how, model, output):
    path = COMPACT if how == "route" else "/v1/responses"
    given = "One" if how == "route" else [user("One"), TRIGGER]
    failed = client.ask(given, path=path, model=model, output=output)
    assert failed.status == 502 and failed.error["code"] == "upstream_disconnected"
    assert client.rows() == [0, 0, 0]


@pytest.mark.parametrize(("model", "output"), [("model-1", [assistant("No.")]), ("model-3", [])])
def test_a_stream_that_does_not_compact(client, model, output):
    failed = client.ask([user("One"), TRIGGER], model=model, output=output, stream=True)
    assert [event["type"] for event in failed.body[-2:]] == ["error", "response.failed"]
    assert client.rows() == [0, 0, 0]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("end", ["failed", "incomplete", "cut"])
def test_a_failed_compaction_leaves_the_conversation_as_it_was(client, how, end):
    """Half a summary would lose what it has not come to, so one counts only where its response is completed."""
    outputs = {"model-1": [SEALED], "model-3": [assistant("Half a summ")]}
    for model, output in outputs.items():
        first = client.turn("One", model=model)
        before = client.rows()
        asked = {"model": model, "previous_response_id": first.id, "headers": {"x-test-answer": end}, "output": output}
        if how == "route":
            client.ask(path=COMPACT, **asked)
        else:
            client.ask([TRIGGER], stream=how == "stream", **asked)
        assert client.rows() == before
        assert client.turn("Two", first.id, model=model).sent[0][:2] == [user("One"), *first.output]


def test_an_upstream_that_compacts_unasked(client):
    first = client.turn("One")
    told = client.turn("Two", first.id, output=[SEALED, assistant("and on")])
    assert told.commit["mode"] == "replace"
    assert client.turn("Three", told.id).sent == [[SEALED, assistant("and on"), user("Three")]]


def test_a_compaction_that_is_not_stored(client):
    answer = client.ask("One", path=COMPACT, output=[SEALED], store=False)
    assert answer.output == [SEALED]
    assert client.rows() == [0, 0, 0]
    failed = client.ask("One", path=COMPACT, output=[assistant("No.")], store=False)
    assert failed.status == 502


def test_a_blob_that_only_looks_like_the_gateways(client):
    odd = [
        {**SEALED, "encrypted_content": f"floway1.{text}"}
        for text in ("", "%%%", "bm8", base64.urlsafe_b64encode(b'{"a": 1}').decode(), "W10")
    ]
    told = client.turn([*odd, user("One")])
    assert told.sent[0][-1] == user("One")
    sent = [item["encrypted_content"] for item in told.sent[0] if item["type"] == "compaction"]
    assert odd[0]["encrypted_content"] in sent and odd[3]["encrypted_content"] in sent
