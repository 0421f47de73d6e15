"""The normal form of an item is the same whether fields have to be removed or not, and never changes the item."""

import copy
import hashlib
import random

import pytest

from floway_core.protocol import items, jsontext

INCIDENTAL = ("id", "status", "annotations", "logprobs", "phase")
VALUES = [
    None,
    [],
    {},
    "",
    "text",
    0,
    False,
    [None],
    [[]],
    {"id": None},
    "message",
    "user",
    "assistant",
    '{"b":1,"a":2}',
]
TYPES = ["message", "function_call", "mcp_approval_request", "reasoning", "text", None, ["text"], "input_text"]


def long_way(item):
    """The normal form, one field after the other."""
    kept = [name for name, value in item.items() if name not in INCIDENTAL and value is not None and value != []]
    form = {name: item[name] for name in kept}
    if "role" in form:
        form["type"] = form.get("type", "message")
        kind = "output_text" if form["role"] == "assistant" else "input_text"
        content = form.get("content")
        if isinstance(content, str):
            form["content"] = [{"type": kind, "text": content}]
        elif isinstance(content, list):
            form["content"] = [long_way_of_a_part(part, kind) for part in content]
    elif item.get("type") in ("mcp_approval_request", "image_generation_call", "local_shell_call_output", None):
        form["id"] = item.get("id")
    if item.get("type") == "function_call":
        arguments = form.get("arguments")
        form["arguments"] = {"a": 2, "b": 1} if arguments == VALUES[-1] else arguments
    return form


def long_way_of_a_part(part, kind):
    if not isinstance(part, dict):
        return part
    form = {name: value for name, value in part.items() if name not in INCIDENTAL and value is not None}
    if form.get("type") in ("input_text", "output_text", "text"):
        form["type"] = kind
    return form


def random_object(choose, names):
    chosen = choose.sample(names, choose.randrange(len(names)))
    return {name: choose.choice(TYPES if name == "type" else VALUES) for name in chosen}


def random_item(choose):
    item = random_object(choose, ["type", "role", "content", "arguments", "call_id", *choose.sample(INCIDENTAL, 2)])
    if "content" in item and choose.random() < 0.7:
        names = ["type", "text", "image_url", *choose.sample(INCIDENTAL, 2)]
        item["content"] = [choose.choice([random_object(choose, names), "text", None]) for _ in range(3)]
    return item


@pytest.mark.parametrize("seed", range(50))
def test_it_is_the_one_of_the_long_way(seed):
    choose = random.Random(seed)
    for _ in range(200):
        item = random_item(choose)
        before = copy.deepcopy(item)
        assert jsontext.canonical(items.usual_form(item)) == jsontext.canonical(long_way(item))
        assert item == before


def test_hashes_of_histories_are_those_that_are_stored():
    history, expected = items.START, []
    for item in [{"role": "user", "content": "One"}, {"type": "reasoning", "id": "rs_1", "summary": []}]:
        text = history.encode() + b"\n" + jsontext.canonical(long_way(item))
        history = hashlib.sha256(text).hexdigest()
        expected.append(history)
    sent = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "One"}]},
        {"type": "reasoning"},
    ]
    assert items.extended_hashes(items.START, sent) == expected
