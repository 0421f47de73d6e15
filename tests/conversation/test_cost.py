"""What a turn costs depends on what it adds, not on how long the conversation is."""

import dataclasses
import random

import pytest

from floway_core.storage.db import select

from .direct_store import assistant, user

pytestmark = pytest.mark.soak

MARKS = (10, 60, 200)


def noise(seed, size):
    """Text that does not compress, always the same."""
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz0123456789 ", k=size))


def request(number):
    """What the client adds in a turn, and the answer."""
    number = f"{number:05}"
    call = {"type": "function_call", "id": f"fc_{number}", "name": "f", "arguments": "{}", "call_id": f"call_{number}"}
    blob = {"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": noise(number, 800)}
    return [user(f"Question {number}")], [blob, call, assistant(f"Answer {number}")]


def bare(item):
    """As a client sends it that keeps no ids and writes texts as strings."""
    item = {name: value for name, value in item.items() if name not in ("id", "status")}
    return {**item, "content": item["content"][0]["text"]} if "content" in item else item


@pytest.fixture(params=["by id", "whole history", "whole history, other form", "references"])
def lead(request, store):
    """Leads a conversation on by one turn."""
    history, ids = [], []

    def turn(given, output):
        if request.param == "by id":
            response_id = store.turn(given, *output, previous=ids[-1] if ids else None)
        elif request.param == "references":
            said_before = [{"type": "item_reference", "id": item["id"]} if "id" in item else item for item in history]
            response_id = store.turn([*said_before, *given], *output)
        else:
            before = history if request.param == "whole history" else [bare(item) for item in history]
            response_id = store.turn([*before, *given], *output)
        history.extend([*given, *output])
        ids.append(response_id)
        return response_id

    return turn


def test_a_turn_writes_what_it_adds(store, lead, queries):
    costs, sizes = set(), []
    for number in range(1, MARKS[-1] + 1):
        before, size = store.rows(), store.size()
        del queries[:]
        response_id = lead(*request(number))
        if number in MARKS:
            rows = tuple(after - first for first, after in zip(before, store.rows(), strict=True))
            writes = [text for text in queries if text.startswith(("INSERT", "UPDATE", "DELETE"))]
            costs.add((rows, len(writes)))
            sizes.append(store.size() - size)
    ((rows, writes),) = costs
    assert rows == (0, 1, 4)
    assert writes == 4, "the conversation, the parent's ordinal, the snapshot, the items"
    assert max(sizes) - min(sizes) < 30, "a random text does not always shrink by the same"
    assert max(sizes) < 2000
    assert len(store.history(response_id)) == 4 * MARKS[-1]


@pytest.mark.parametrize("length", MARKS)
def test_a_turn_by_id_asks_the_same_at_every_length(store, queries, length):
    previous = None
    for number in range(length):
        del queries[:]
        given, output = request(number)
        previous = store.turn(given, *output, previous=previous)
    reads = [text for text in queries if text.lstrip().startswith(("SELECT", "WITH"))]
    loading = [text for text in reads if "RECURSIVE" in text]
    assert len(loading) == 1 and "responses_items" in loading[0]
    assert len(reads) <= 5 and len(queries) <= 16
    del queries[:]
    found = store.history(previous)
    assert len(found) == 4 * length and len(queries) == 2, "one to find it, one for the chain and its items"


def test_compression_where_it_pays(store):
    store.turn([user("short"), user("long " * 1000), user(noise(1, 5000))], assistant("a"))
    rows = select(
        store.database, "SELECT payload FROM responses_items WHERE api_key_id = ? ORDER BY position", store.key_id
    )
    short, long, random_text, _ = [bytes(payload) for (payload,) in rows]
    assert short[:1] == b"j" and b'"short"' in short
    assert long[:1] == b"z" and len(long) < 200
    assert len(random_text) < 5200


def test_a_thousand_turns_deep(store):
    """The chain is followed by the database, however long it is."""
    previous = None
    for number in range(1000):
        turn = dataclasses.replace(store.begin([user(str(number))]), previous=previous)
        previous = store.snapshot(store.commit(turn))
    assert store.history(previous.response_id) == [user(str(number)) for number in range(1000)]
