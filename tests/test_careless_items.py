"""Output items and usage told carelessly spoil neither an answer nor what is stored of it."""

import json

import pytest

from floway_core.testing import Reply, event, message_item, message_stream
from floway_core.testing.events import USAGE, response

from .odd_events import CALL_A, CALL_B, CREATED, JSON, MESSAGE, REASONING, SHELL, about, added, completed, done

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
    "deltas alone": (
        [added(0, SHELL), *(about("output_text.delta", content_index=0, delta=part) for part in ("Hel", "lo."))],
        [],
        [MESSAGE],
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
    last = {
        one["item"].get("call_id") or one["item"]["id"]: one["item"]
        for one in told
        if one["type"].endswith("item.done")
    }
    ends = {item.get("call_id") or item["id"] for item in expected}
    assert set(last) == ends
    indexes = [one["output_index"] for one in told if one["type"].endswith("item.added")]
    assert all(isinstance(index, int) for index in indexes) and len(indexes) == len(set(indexes))


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
