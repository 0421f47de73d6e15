"""A history that is sent again is recognised despite the changes of clients, and no other history is."""

import pytest

from .direct_store import assistant, user

SUMMARY = [{"type": "summary_text", "text": "Hm."}]
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": SUMMARY,
    "encrypted_content": "sealed",
    "status": "completed",
}
ARGUMENTS = '{"a": "\\u00fc", "b": [1]}'
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "name": "f",
    "arguments": ARGUMENTS,
    "call_id": "c",
    "status": "completed",
}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "42"}


def without(item, *names):
    return {name: value for name, value in item.items() if name not in names}


def is_call(item):
    return item.get("type") == "function_call"


def as_text(item):
    return {**item, "content": item["content"][0]["text"]}


def bare(item):
    """As clients write it that keep nothing but the text."""
    return {"role": item["role"], "content": item["content"][0]["text"]}


def with_part(item, **fields):
    part = {name: value for name, value in {**item["content"][0], **fields}.items() if value != "left out"}
    return {**item, "content": [part]}


HARMLESS = {
    "as it was": lambda item: item,
    "without id": lambda item: without(item, "id"),
    "without id and status": lambda item: without(item, "id", "status"),
    "with nulls": lambda item: {**item, "id": None, "status": None, "phase": None, "content_filter": []},
    "another status": lambda item: {**item, "status": "in_progress"},
    "another id": lambda item: {**item, "id": "item_9"},
    "text instead of parts": lambda item: as_text(item) if "role" in item else item,
    "role and text only": lambda item: bare(item) if "role" in item else without(item, "id"),
    "without annotations": lambda item: with_part(item, annotations="left out") if "role" in item else item,
    "with logprobs": lambda item: with_part(item, logprobs=[], annotations=None) if "role" in item else item,
    "text as input": lambda item: with_part(item, type="input_text") if "role" in item else item,
    "plain text": lambda item: with_part(item, type="text") if "role" in item else item,
    "another phase": lambda item: {**item, "phase": "commentary"} if "role" in item else item,
    "without the summary": lambda item: {**item, "summary": []} if "summary" in item else item,
    "other order of keys": lambda item: dict(reversed(item.items())),
    "arguments written anew": lambda item: {**item, "arguments": '{"b":[1],"a":"\u00fc"}'} if is_call(item) else item,
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_harmless_changes(store, change):
    history = [user("One"), REASONING, CALL, RESULT, assistant("a")]
    first = store.turn([user("One")], REASONING, CALL)
    second = store.turn([RESULT], assistant("a"), previous=first)
    turn = store.begin([*map(change, history), user("Two")])
    assert turn.previous.response_id == second and not turn.explicit_previous
    assert turn.new_items == [user("Two")]
    assert turn.input.items == [*map(change, history), user("Two")], "sent as the client wrote it"
    third = store.commit(turn, assistant("b"))
    assert store.history(third) == [*history, user("Two"), assistant("b")]


def test_the_first_message_as_text_or_as_a_list(store):
    first = store.turn("One", assistant("a"))
    for form in ("One", [{"type": "input_text", "text": "One"}], [{"type": "text", "text": "One"}]):
        turn = store.begin([{"role": "user", "content": form}, assistant("a"), user("Two")])
        assert turn.previous.response_id == first


HARMFUL = {
    "other arguments": [user("One"), {**CALL, "arguments": '{"a": "\\u00fc", "b": [2]}'}],
    "another text": [user("One!"), assistant("a")],
    "another role": [{**user("One"), "role": "developer"}, assistant("a")],
    "one more": [user("One"), assistant("a"), assistant("a")],
    "one less": [user("One")],
    "the other way round": [assistant("a"), user("One")],
    "in two parts": [
        {**user("One"), "content": [{"type": "input_text", "text": part} for part in "One"]},
        assistant("a"),
    ],
    "an image too": [
        {**user("One"), "content": [*user("One")["content"], {"type": "input_image", "image_url": "x"}]},
        assistant("a"),
    ],
    "a refusal": [user("One"), {**assistant("a"), "content": [{"type": "refusal", "refusal": "a"}]}],
    "another kind of text": [user("One"), {**assistant("a"), "content": [{"type": "summary_text", "text": "a"}]}],
    "a field more": [user("One"), {**assistant("a"), "channel": "commentary"}],
}


@pytest.mark.parametrize("history", HARMFUL.values(), ids=HARMFUL)
def test_another_history(store, history):
    store.turn("One", assistant("a"))
    turn = store.begin([*history, user("Two")])
    assert turn.previous is None or len(turn.new_items) == len(history) - 1
    if turn.previous is None:
        assert turn.new_items == [*history, user("Two")]


@pytest.mark.parametrize("kind", ["mcp_approval_request", "image_generation_call", "local_shell_call_output", None])
def test_an_id_that_says_something(store, kind):
    """Of these items nothing but the id tells one from the other."""
    one, other = ({"type": kind, "id": f"x_{number}", "status": "completed"} for number in (1, 2))
    if kind is None:
        del one["type"], other["type"]
    store.turn("One", one, assistant("a"))
    second = store.turn("One", other, assistant("a"))
    assert (
        store.begin([user("One"), without(other, "status"), assistant("a"), user("Two")]).previous.response_id == second
    )
    unknown = {**one, "id": "x_3"}
    assert store.begin([user("One"), unknown, assistant("a"), user("Two")]).previous is None


def test_the_longest_known_beginning_counts(store):
    first = store.turn("One", assistant("a"))
    second = store.turn("Two", assistant("b"), previous=first)
    store.turn("Three", assistant("c"), previous=second)
    turn = store.begin([user("One"), assistant("a"), user("Two"), assistant("b"), user("Other")])
    assert turn.previous.response_id == second and turn.new_items == [user("Other")]
    turn = store.begin([user("One"), assistant("a"), user("Two"), assistant("edited"), user("Three")])
    assert turn.previous.response_id == first
    assert turn.new_items == [user("Two"), assistant("edited"), user("Three")]


def test_the_latest_of_equal_histories_counts(store):
    ids = [store.turn("One", assistant("a")) for _ in range(3)]
    assert store.begin([user("One"), assistant("a"), user("Two")]).previous.response_id == ids[-1]


def test_many_equal_histories_cost_one_row(store, queries):
    for _ in range(50):
        store.turn("One", assistant("a"))
    del queries[:]
    assert store.begin([user("One"), assistant("a"), user("Two")]).previous
    assert len(queries) == 1


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_trigger_is_passed_over(store, place):
    first = store.turn("One", assistant("a"))
    trigger = {"type": "compaction_trigger"}
    given = [user("One"), assistant("a"), user("Two")]
    given.insert(place, trigger)
    turn = store.begin(given)
    assert turn.previous.response_id == first
    assert turn.new_items == [user("Two")]
    assert turn.input.items == given


def test_a_window_that_starts_with_a_compaction(store):
    first = store.turn("One", assistant("a"))
    blob = {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"}
    compacted = store.commit(store.begin([{"type": "compaction_trigger"}], first), blob)
    assert store.history(compacted) == [blob]
    turn = store.begin([without(blob, "id"), user("Two")])
    assert turn.previous.response_id == compacted and turn.new_items == [user("Two")]
    second = store.commit(turn, assistant("b"))
    assert store.history(second) == [blob, user("Two"), assistant("b")]
    turn = store.begin([blob, user("Two"), assistant("b"), user("Three")])
    assert turn.previous.response_id == second and turn.new_items == [user("Three")]


def test_lone_surrogates_and_their_escapes_differ(store):
    store.turn("\ud83d", assistant("a"))
    assert store.begin([user("\\ud83d"), assistant("a"), user("Two")]).previous is None
    assert store.begin([user("?"), assistant("a"), user("Two")]).previous is None
    assert store.begin([user("\ud83d"), assistant("a"), user("Two")]).previous


def test_what_is_not_stored_is_not_recognised_either(store):
    store.turn("One", assistant("a"))
    assert store.begin([user("One"), assistant("a"), user("Two")], store=False).previous is None
