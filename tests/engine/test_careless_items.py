"""Malformed output items and usage damage neither the answer nor what is stored."""

import json

import pytest

from floway_core.testing import Reply, event, message_item, message_stream
from floway_core.testing.events import USAGE, response

from ..support.odd_events import (
    CALL_A,
    CALL_B,
    CREATED,
    IN_PROGRESS,
    JSON,
    MESSAGE,
    OVERLOAD,
    REASONING,
    SHELL,
    about,
    added,
    completed,
    done,
)

THOUGHT_PART = {"type": "reasoning_text", "text": "Thinking."}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [THOUGHT_PART], "status": "completed"}


def thought(**fields):
    return about("reasoning_text.delta", item_id="rs_1", content_index=0, **fields)


OUTPUTS = {
    "one index for all": ([done(0, CALL_A), done(0, CALL_B)], [], [CALL_A, CALL_B]),
    "one index, and the end has all": (
        [done(0, REASONING), done(0, MESSAGE)],
        [REASONING, MESSAGE],
        [REASONING, MESSAGE],
    ),
    "a hole": ([done(4, MESSAGE)], [MESSAGE], [MESSAGE]),
    "no index": ([event("response.output_item.done", item=MESSAGE)], [], [MESSAGE]),
    "a text for an index": ([done("0", MESSAGE), done(True, CALL_A)], [], [MESSAGE, CALL_A]),
    "only the end has one": ([done(0, MESSAGE)], [REASONING, MESSAGE], [REASONING, MESSAGE]),
    "only the end has all": ([], [REASONING, MESSAGE], [REASONING, MESSAGE]),
    "the end has less": ([done(0, REASONING), done(1, MESSAGE)], [MESSAGE], [REASONING, MESSAGE]),
    "a shell, and the end has the text": ([done(0, SHELL)], [MESSAGE], [MESSAGE]),
    "the text, and the end has a shell": ([done(0, MESSAGE)], [{**MESSAGE, "content": []}], [MESSAGE]),
    "other ids at the end": (
        [done(0, MESSAGE), done(1, CALL_A)],
        [MESSAGE | {"id": "m"}, CALL_A | {"id": "c"}],
        [MESSAGE, CALL_A],
    ),
    "other ids in item.done": ([added(0, SHELL | {"id": "x"}), done(0, MESSAGE)], [], [MESSAGE | {"id": "x"}]),
    "an item twice": ([done(0, CALL_A), done(1, CALL_A)], [CALL_A, CALL_A], [CALL_A]),
    "a call with two ids": ([done(0, CALL_A), done(1, CALL_A | {"id": "fc_z"})], [], [CALL_A]),
    "never closed": ([added(0, SHELL), about("output_text.done", content_index=0, text="Hello.")], [], [MESSAGE]),
    "a refusal whose part is announced": (
        [
            added(0, SHELL),
            about("content_part.added", content_index=0, part={"type": "refusal", "refusal": ""}),
            about("refusal.delta", content_index=0, delta="No."),
            about("content_part.done", content_index=0, part={"type": "refusal", "refusal": "No."}),
        ],
        [],
        [MESSAGE | {"content": [{"type": "refusal", "refusal": "No."}]}],
    ),
    "deltas alone": (
        [added(0, SHELL), *(about("output_text.delta", content_index=0, delta=part) for part in ("Hel", "lo."))],
        [],
        [MESSAGE],
    ),
    "a text that ends empty": (
        [
            added(0, SHELL),
            about("output_text.delta", content_index=0, delta="Hello."),
            about("output_text.done", text=""),
        ],
        [],
        [MESSAGE],
    ),
    "a text for the content": ([done(0, MESSAGE | {"content": "Hello."})], [], [MESSAGE]),
    "a text among the parts": ([done(0, MESSAGE | {"content": ["Hello.", None]})], [], [MESSAGE]),
    "a text for the summary": ([done(0, REASONING | {"summary": "Thinking."})], [], [REASONING]),
    "no summary": ([done(0, {"id": "rs_1", "type": "reasoning"})], [], [REASONING | {"summary": []}]),
    "an object for the arguments": ([done(0, CALL_A | {"arguments": {"a": 1}})], [], [CALL_A]),
    "no content at all": ([done(0, MESSAGE | {"content": None})], [MESSAGE], [MESSAGE]),
    "deltas of nothing named": (
        [added(0, SHELL), *(event("response.output_text.delta", delta=part) for part in ("Hel", "lo."))],
        [],
        [MESSAGE],
    ),
    "deltas of nothing named, and nothing else": (
        [event("response.output_text.delta", delta="Hello.")],
        [MESSAGE],
        [MESSAGE],
    ),
    "a longer item of the same id and place": ([done(0, message_item("Hel")), done(0, MESSAGE)], [], [MESSAGE]),
    "the final order is another": ([done(1, CALL_B), done(0, CALL_A)], [CALL_A, CALL_B], [CALL_A, CALL_B]),
    "an index beyond all": ([added(10**12, SHELL), done(10**12, MESSAGE)], [], [MESSAGE]),
    "calls of one id, one of them cut short": (
        [done(0, CALL_A | {"arguments": '{"a"'}), done(1, CALL_A)],
        [CALL_A],
        [CALL_A],
    ),
    "deltas of nothing announced": ([about("output_text.delta", content_index=0, delta="Hello.")], [], [MESSAGE]),
    "half characters": (
        [added(0, SHELL), *(about("output_text.delta", content_index=0, delta=part) for part in ("\ud83d", "\ude00"))],
        [],
        [message_item("😀")],
    ),
    "deltas, and a shell": (
        [added(0, SHELL), about("output_text.delta", content_index=0, delta="Hello."), done(0, SHELL)],
        [SHELL],
        [MESSAGE],
    ),
    "closed without its text, which follows": (
        [added(0, SHELL), done(0, SHELL), about("output_text.delta", content_index=0, delta="Hello.")],
        [],
        [MESSAGE],
    ),
    "the text in a part": (
        [added(0, SHELL), about("content_part.done", content_index=0, part=MESSAGE["content"][0])],
        [],
        [MESSAGE],
    ),
    "a call in deltas": (
        [
            added(0, CALL_A | {"arguments": "", "status": "in_progress"}),
            *(about("function_call_arguments.delta", item_id="fc_a", delta=part) for part in ('{"a"', ":1}")),
        ],
        [],
        [CALL_A],
    ),
    "two calls at once": (
        [
            added(0, CALL_A | {"arguments": ""}),
            added(1, CALL_B | {"arguments": ""}),
            about("function_call_arguments.delta", 0, "fc_a", delta='{"a"'),
            about("function_call_arguments.delta", 1, "fc_b", delta='{"b"'),
            about("function_call_arguments.delta", 0, "fc_a", delta=":1}"),
            about("function_call_arguments.delta", 1, "fc_b", delta=":1}"),
        ],
        [],
        [CALL_A, CALL_B],
    ),
    "reasoning in deltas": (
        [
            added(0, REASONING | {"summary": []}),
            about("reasoning_summary_text.delta", item_id="rs_1", summary_index=0, delta="Thinking."),
        ],
        [],
        [REASONING | {"status": "completed"}],
    ),
    "readable reasoning in deltas": ([thought(delta="Think"), thought(delta="ing.")], [], [THOUGHT]),
    "readable reasoning whose part is announced": (
        [
            about("content_part.added", item_id="rs_1", content_index=0, part=THOUGHT_PART | {"text": ""}),
            thought(delta="Thinking."),
            about("content_part.done", item_id="rs_1", content_index=0, part=THOUGHT_PART),
        ],
        [],
        [THOUGHT],
    ),
}


@pytest.mark.parametrize("case", OUTPUTS)
@pytest.mark.parametrize("stream", [True, False])
def test_each_item_stands_once_with_all_its_content(ask, fake_upstream, case, stream):
    events, final, expected = OUTPUTS[case]
    fake_upstream.script(Reply([CREATED, *events, completed(*final)]), Reply(message_stream()))
    answer = ask.create(stream=stream)
    told = answer.events()[-1]["response"] if stream else answer.json()
    assert told["output"] == expected
    assert ask.get(f"/v1/responses/{told['id']}").json()["output"] == expected
    ask.create("Next", previous_response_id=told["id"], store=False).json()
    sent = json.loads(fake_upstream.requests[-1].body)["input"]
    assert sent[1:-1] == expected


@pytest.mark.parametrize("case", OUTPUTS)
def test_who_reads_only_closed_items_reads_all(ask, fake_upstream, case):
    """As some clients and frameworks do."""
    events, final, expected = OUTPUTS[case]
    fake_upstream.script(Reply([CREATED, *events, completed(*final)]))
    told = ask.stream(store=False).events()
    last = {one["item"]["id"]: one["item"] for one in told if one["type"].endswith("item.done")}
    assert sorted(last.values(), key=lambda item: item["id"]) == sorted(expected, key=lambda item: item["id"])
    indexes = [one["output_index"] for one in told if one["type"].endswith("item.added")]
    assert all(isinstance(index, int) for index in indexes) and len(indexes) == len(set(indexes))


@pytest.mark.parametrize("opening", [[CREATED], [], [IN_PROGRESS]])
@pytest.mark.parametrize("case", [case for case in OUTPUTS if "nothing named" not in case])
def test_the_stream_helper_of_a_strict_client_follows(gateway, fake_upstream, openai_package, case, opening):
    """It wants ``response.created`` first, makes a list of the items and parts that are announced, and looks up the
    place of each delta in it."""
    events, final, expected = OUTPUTS[case]
    fake_upstream.script(Reply([*opening, *events, completed(*final)]))
    made = openai_package(gateway.url, gateway.key, {"x-test-upstream": fake_upstream.url})
    with made.responses.stream(model="model-1", input="Hi", store=False) as stream:
        for _ in stream:
            pass
        assert [item.id for item in stream.get_final_response().output] == [item["id"] for item in expected]


PART_ADDED = {"content_index": "response.content_part.added", "summary_index": "response.reasoning_summary_part.added"}


@pytest.mark.parametrize("case", OUTPUTS)
def test_items_and_parts_are_announced_before_anything_else_about_them(ask, fake_upstream, case):
    """The stream helper of the openai package for Node refuses other streams."""
    events, final, expected = OUTPUTS[case]
    fake_upstream.script(Reply([CREATED, *events, completed(*final)]))
    told = ask.stream(store=False).events()
    announced = set()
    for one in told:
        if one["type"] == "response.output_item.added":
            assert one["output_index"] == len(announced & set(range(100)))
            announced.add(one["output_index"])
        elif "output_index" in one:
            assert one["output_index"] in announced, one
        for field, opening in PART_ADDED.items():
            if field in one:
                part = (one["output_index"], field, one[field])
                assert (part in announced) is (one["type"] != opening), one
                announced.add(part)
    numbers = [one["sequence_number"] for one in told if "sequence_number" in one]
    assert numbers == sorted(set(numbers)) and len(announced & set(range(100))) == len(expected)


@pytest.mark.parametrize("is_announced", [True, False])
def test_readable_reasoning_is_announced_like_other_texts(ask, fake_upstream, is_announced):
    """The stream helper of the openai package for Node looks up the place of these deltas, too."""
    opening = [added(0, THOUGHT | {"content": [], "status": "in_progress"})] if is_announced else []
    events = [thought(delta="Think"), thought(delta="ing."), done(0, THOUGHT)]
    fake_upstream.script(Reply([CREATED, *opening, *events, completed(THOUGHT)]))
    told = ask.stream(store=False).events()
    kinds = [one["type"].removeprefix("response.") for one in told]
    assert kinds[1:4] == ["output_item.added", "content_part.added", "reasoning_text.delta"]
    assert told[2]["part"] == THOUGHT_PART | {"text": ""} and told[2]["item_id"] == told[1]["item"]["id"] == "rs_1"


def test_events_that_are_added_are_numbered_in_order(ask, fake_upstream):
    deltas = [
        about("output_text.delta", content_index=0, delta=part, sequence_number=number)
        for number, part in enumerate(("Hel", "lo", "."), 1)
    ]
    end = completed(MESSAGE, sequence_number=4)
    fake_upstream.script(Reply([CREATED, *deltas[:1], *deltas[1:], end]))
    told = ask.stream(store=False).events()
    kinds = [one["type"].removeprefix("response.") for one in told]
    assert kinds[:4] == ["created", "output_item.added", "content_part.added", "output_text.delta"]
    assert [one["delta"] for one in told if "delta" in one] == ["Hel", "lo", "."], "and nothing twice"
    assert [one["sequence_number"] for one in told] == list(range(len(told)))


def test_a_response_that_nobody_announced_is_announced(ask, fake_upstream):
    """Its announcement has the id, the model and the number that go with the rest."""
    events = [
        about("output_text.delta", content_index=0, delta="Hello.", sequence_number=0),
        completed(MESSAGE, sequence_number=1),
    ]
    fake_upstream.script(Reply(events), Reply([completed(MESSAGE)]))
    for told in (ask.stream(store=False).events(), ask.stream(store=False).events()):
        first, last = told[0], told[-1]
        assert first["type"] == "response.created" and first["response"]["status"] == "in_progress"
        assert first["response"]["id"] == last["response"]["id"] and first["response"]["model"] == "model-1"
        assert first["response"]["output"] == [] and first["response"].get("usage") is None
        numbers = [one["sequence_number"] for one in told if "sequence_number" in one]
        assert numbers == sorted(set(numbers))


def test_a_failure_that_nobody_announced_stays_a_failure(ask, fake_upstream):
    fake_upstream.script(Reply([event("response.failed", response=response("failed", error=OVERLOAD))]))
    told = [one["type"] for one in ask.stream(store=False).events()]
    assert "response.created" not in told and told[-1] == "response.failed"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("call_ids", [("", ""), (None, None), ("call_0", "call_0")])
@pytest.mark.parametrize("names", ["ff", "fg"])
@pytest.mark.parametrize("at_end", [True, False])
def test_calls_without_an_id_of_their_own_get_one(ask, fake_upstream, stream, call_ids, names, at_end):
    calls = [CALL_A, CALL_B]
    calls = [
        one | {"call_id": call_id, "name": name} for one, call_id, name in zip(calls, call_ids, names, strict=True)
    ]
    fake_upstream.script(Reply([CREATED, *map(done, (0, 1), calls), completed(*calls if at_end else [])]))
    answer = ask.create(stream=stream)
    told = answer.events() if stream else [{"type": "", "response": answer.json()}]
    output = told[-1]["response"]["output"]
    assert [item["arguments"] for item in output] == ['{"a":1}', '{"b":1}']
    assert len({item["call_id"] for item in output}) == 2 and all(item["call_id"] for item in output)
    assert not stream or [one["item"] for one in told if one["type"].endswith("item.done")] == output
    fake_upstream.script(Reply(message_stream()))
    results = [{"type": "function_call_output", "call_id": item["call_id"], "output": "1"} for item in output]
    ask.create(results, previous_response_id=told[-1]["response"]["id"]).json()
    sent = json.loads(fake_upstream.requests[-1].body)["input"]
    assert [item["call_id"] for item in sent[1:3]] == [item["call_id"] for item in sent[3:]]


@pytest.mark.parametrize("item_id", ["", None, 5])
def test_items_without_an_id_get_one_that_all_events_name(ask, fake_upstream, item_id):
    shell, whole = SHELL | {"id": item_id}, MESSAGE | {"id": item_id}
    text = about("output_text.delta", item_id=item_id, content_index=0, delta="Hello.")
    fake_upstream.script(Reply([CREATED, added(0, shell), text, done(0, whole), completed(whole)]))
    told = ask.stream().events()
    (item,) = told[-1]["response"]["output"]
    assert item["id"].startswith("msg_") and item["content"] == MESSAGE["content"]
    assert {one.get("item_id") or one["item"]["id"] for one in told[1:-1]} == {item["id"]}
    assert ask.get(f"/v1/responses/{told[-1]['response']['id']}").json()["output"] == [item]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("content", [{}, {"response": None}])
def test_a_terminal_event_without_its_response_ends_what_was_told(ask, fake_upstream, stream, content):
    fake_upstream.script(Reply([CREATED, done(0, MESSAGE), event("response.completed", **content)]))
    answer = ask.create(stream=stream)
    told = answer.events()[-1]["response"] if stream else answer.json()
    assert (told["status"], told["output"]) == ("completed", [MESSAGE])


@pytest.mark.parametrize("stream", [True, False])
def test_thousands_of_items_take_a_moment(ask, fake_upstream, stream):
    """If each were compared with each, this would take minutes, and the client of this test waits twenty seconds."""
    items = [message_item(f"{number}", id=f"msg_{number}") for number in range(10_000)]
    shells = [added(0, {**item, "content": []}) for item in items]
    fake_upstream.script(Reply([b"".join([CREATED, *shells, *(done(0, item) for item in items), completed(*items)])]))
    answer = ask.create(stream=stream, store=False)
    assert (answer.events()[-1]["response"] if stream else answer.json())["output"] == items


@pytest.mark.parametrize("stream", [True, False])
def test_items_of_an_answer_in_one_piece_get_the_same_form(ask, fake_upstream, stream):
    given = [None, MESSAGE | {"content": ["Hello."]}, CALL_A | {"arguments": {"a": 1}}, "x"]
    whole = json.dumps(response("completed", output=given)).encode()
    fake_upstream.script(Reply([whole], headers=JSON, framing="length"))
    answer = ask.create(stream=stream, store=False)
    assert (answer.events()[-1]["response"] if stream else answer.json())["output"] == [MESSAGE, CALL_A]


def test_ids_that_repeat_within_an_answer_become_distinct_in_all_events(ask, fake_upstream):
    texts = ["One.", "Two."]
    events = []
    for index, text in enumerate(texts):
        events += [added(index, SHELL), about("output_text.delta", index, content_index=0, delta=text)]
        events += [done(index, message_item(text))]
    fake_upstream.script(Reply([CREATED, *events, completed(*map(message_item, texts))]))
    told = ask.stream(store=False).events()
    output = told[-1]["response"]["output"]
    assert [item["content"][0]["text"] for item in output] == texts
    first, second = (item["id"] for item in output)
    assert (first, second != first) == ("msg_1", True)
    deltas = [(one["item_id"], one["delta"]) for one in told if one["type"].endswith(".delta")]
    assert deltas == [(first, "One."), (second, "Two.")]
    assert [one["item"]["id"] for one in told if one["type"].endswith("item.done")] == [first, second]


USAGES = {
    "details with holes": ({**USAGE, "output_tokens_details": {}}, (7, 5, 12, 3, 0)),
    "no cache writes": ({**USAGE, "input_tokens_details": {"cached_tokens": 3}}, (7, 5, 12, 3, 0)),
    "no details": ({"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}, (7, 5, 12, 0, 0)),
    "no total": ({"input_tokens": 7, "output_tokens": 5}, (7, 5, 12, 0, 0)),
    "other names": ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}, (7, 5, 12, 0, 0)),
    "whole numbers with a point": ({"input_tokens": 7.0, "output_tokens": 5.0}, (7, 5, 12, 0, 0)),
    "nothing in the counts": ({"input_tokens": None, "output_tokens": None, "total_tokens": None}, None),
    "empty": ({}, None),
    "a text": ("much", None),
    "null": (None, None),
}


@pytest.mark.parametrize("case", USAGES)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_usage_is_whole_or_null(ask, fake_upstream, case, stream, whole):
    usage, counts = USAGES[case]
    told = response("completed", output=[MESSAGE], usage=usage)
    if whole:
        fake_upstream.script(Reply([json.dumps(told).encode()], headers=JSON, framing="length"))
    else:
        fake_upstream.script(Reply([CREATED, done(0, MESSAGE), event("response.completed", response=told)]))
    answer = ask.create(stream=stream)
    response_ = answer.events()[-1]["response"] if stream else answer.json()
    assert ask.get(f"/v1/responses/{response_['id']}").json()["usage"] == response_["usage"]
    found = response_["usage"] and (
        *(response_["usage"][name] for name in ("input_tokens", "output_tokens", "total_tokens")),
        response_["usage"]["input_tokens_details"]["cached_tokens"],
        response_["usage"]["output_tokens_details"]["reasoning_tokens"],
    )
    assert found == counts
    assert not found or response_["usage"]["input_tokens_details"]["cache_write_tokens"] == 0
