"""Ids and texts that databases may refuse: NUL, lone surrogates, excessive length, huge items."""

import pytest

from floway_core.errors import MAX_MESSAGE_CHARACTERS, GatewayError

from .direct_store import assistant, user

ODD = ["a\0b", "\ud83d", "ü" * 300, "x" * 100_000, "", " ", "'; DROP TABLE api_keys; --", "%s", "?", "\U0010ffff"]


def cut(message):
    """The message as a client gets it: what it quotes may be as long as a request."""
    return message if len(message) <= MAX_MESSAGE_CHARACTERS else message[:MAX_MESSAGE_CHARACTERS] + "..."


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_an_odd_id_to_continue_is_an_unknown_one(store, odd):
    with pytest.raises(GatewayError) as caught:
        store.begin("Hi", odd)
    assert (caught.value.status, caught.value.code) == (400, "previous_response_not_found")
    assert caught.value.message == cut(f"Previous response with id '{odd}' not found.")


@pytest.mark.parametrize("odd", ODD, ids=ascii)
@pytest.mark.parametrize("shape", [{"type": "item_reference"}, {}])
def test_an_odd_reference_is_an_unknown_one(store, odd, shape):
    with pytest.raises(GatewayError) as caught:
        store.begin([user("Hi"), {**shape, "id": odd}])
    assert (caught.value.status, caught.value.param) == (404, "input")
    assert caught.value.message == cut(f"Item with id '{odd}' not found.")


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_odd_ids_and_texts_are_stored(store, odd):
    given = [{**user(odd), "id": odd}, {"type": "function_call_output", "call_id": odd, "output": odd}]
    output = [assistant(odd, id=odd), {"type": "reasoning", "id": odd, "summary": [], "encrypted_content": odd}]
    first = store.turn(given, *output, metadata={"plugin": {"odd": odd, odd: 1}})
    assert store.history(first) == given + output
    assert store.snapshot(first).metadata == {"plugin": {"odd": odd, odd: 1}}
    second = store.begin([*given, *output, user("More")])
    assert second.previous.response_id == first
    assert second.new_items == [user("More")]


def test_ids_that_are_no_texts(store):
    given = [{**user("Hi"), "id": 7}, {**user("Ho"), "id": None}, {**user("Hu"), "id": {"a": []}}]
    first = store.turn(given, assistant("a", id=[]), assistant("b", id=True))
    assert store.history(first) == [*given, assistant("a", id=[]), assistant("b", id=True)]
    with pytest.raises(GatewayError) as caught:
        store.begin([{"type": "item_reference", "id": 7}])
    assert caught.value.status == 404


def test_an_id_of_the_longest_kind_can_be_referred_to(store):
    store.turn("Hi", assistant("a", id="m" * 255), assistant("b", id="m" * 256))
    assert store.begin([{"id": "m" * 255}]).input.items == [assistant("a", id="m" * 255)]
    with pytest.raises(GatewayError):
        store.begin([{"id": "m" * 256}])


def test_a_huge_item(store):
    text = "".join(f"{number:x}" for number in range(2_000_000))  # some 11 MB that do not shrink to nothing
    first = store.turn([user(text)], assistant(text))
    assert store.history(first) == [user(text), assistant(text)]
    assert store.size() < len(text)


def test_many_items_in_one_turn(store):
    given = [user(str(number)) for number in range(1234)]
    first = store.turn(given, *[assistant(str(number)) for number in range(321)])
    assert store.history(first)[:1234] == given
    assert len(store.history(first)) == 1555


def test_numbers_that_only_python_knows(store):
    item = {"type": "function_call_output", "call_id": "c", "output": "", "big": 2**80, "deep": [[[[1.5e300]]]]}
    assert store.history(store.turn([item], assistant("a"))) == [item, assistant("a")]
