"""Turns that go on where a connection is: what it has sent is neither prepared nor read again."""

from dataclasses import replace

import pytest
from floway_codex.simulator import compaction, messages, reply, text

from floway_core.errors import UpstreamBroken
from floway_core.protocol import jsontext
from floway_core.protocol.lazy_items import LazyItems

from .asking import COMPLETED, CREATED, DELTA, STARTED, THREAD, USER, drive, kinds, outputs

UNREADABLE = b"read by nobody"


class Conversation:
    """Plays the engine's part of a conversation by id, with histories that are not parsed yet."""

    def __init__(self, attempt) -> None:
        self._attempt = attempt
        self.histories = {None: []}
        """The items by the id of the response that ends them."""
        self.last = None

    def go_on(self, added, previous, response_id, *, sent=0, **body):
        """Continue a response. The first ``sent`` items of its history cannot be read."""
        history = self.histories[previous]
        slots = [UNREADABLE if place < sent else jsontext.dumps(item) for place, item in enumerate(history)]
        body = {"model": "gpt-5.5", "input": LazyItems([*slots, added]), "instructions": "Be kind.", **body}
        headers = {"session-id": THREAD, "thread-id": THREAD, "x-codex-window-id": f"{THREAD}:0"}
        started = replace(self._attempt(body, headers), response_id=response_id, continues=previous)
        status, content = drive(started)
        assert status == 200
        self.histories[response_id] = [*history, added, *outputs(content)]
        return started


@pytest.fixture
def conversation(attempt) -> Conversation:
    return Conversation(attempt)


@pytest.fixture
def begun(conversation, simulator) -> Conversation:
    """A conversation of two turns, the second of which went over the connection of the first."""
    simulator.script(reply(text("first")), reply(text("second", chunks=3)))
    conversation.go_on(USER, None, "resp_a")
    conversation.go_on(USER, "resp_a", "resp_b", sent=1)
    return conversation


def comparable(items):
    """Items to compare. Of what the backend has said, the CLI leaves out some fields when it sends it again."""
    return [item["content"][0]["text"] if item.get("role") == "assistant" else item for item in items]


def sent_inputs(simulator):
    """The whole input of each turn, as its frames add up."""
    return [comparable(frame.whole["input"]) for frame in simulator.frames if "generate" not in frame.body]


def test_what_a_connection_holds_is_not_read_again(begun, simulator):
    begun.go_on(USER, "resp_b", "resp_c", sent=3)
    assert kinds(simulator) == [*STARTED, "increment", "increment"]
    assert [len(frame.body["input"]) for frame in simulator.frames[2:]] == [1, 1]
    assert simulator.findings == []


def test_the_increments_add_up_to_the_whole_input(begun, simulator):
    begun.go_on(USER, "resp_b", "resp_c", sent=3)
    begun.histories["resp_z"] = begun.histories["resp_b"]
    begun.go_on(USER, "resp_z", "resp_d")  # no connection knows this id
    assert kinds(simulator)[4:] == ["increment", "whole"]
    added_up, whole = sent_inputs(simulator)[-2:]
    assert added_up == whole and len(whole) == 6


@pytest.mark.parametrize("lost", [messages(then="cut"), messages(CREATED, then="cut"), messages(CREATED, then=1012)])
def test_a_connection_lost_before_content_costs_one_whole_input(begun, simulator, waits, lost):
    simulator.script(lost)
    begun.go_on(USER, "resp_b", "resp_c", sent=3)
    assert kinds(simulator)[4:] == ["increment", "upgrade", "whole"] and waits == [0.2]
    assert sent_inputs(simulator)[-1] == sent_inputs(simulator)[-2]
    begun.go_on(USER, "resp_c", "resp_d", sent=5)
    assert kinds(simulator)[7:] == ["increment"] and simulator.findings == []


def test_a_connection_lost_behind_content_is_no_second_request(begun, simulator):
    simulator.script(messages(CREATED, DELTA, then="cut"))
    with pytest.raises(UpstreamBroken):
        begun.go_on(USER, "resp_b", "resp_c", sent=3)
    assert kinds(simulator)[4:] == ["increment"]
    begun.go_on(USER, "resp_b", "resp_d")
    assert kinds(simulator)[5:] == ["upgrade", "whole"]


def test_a_connection_lost_behind_the_answer_is_replaced(begun, simulator):
    simulator.script(messages(CREATED, DELTA, COMPLETED, then=1000))
    begun.go_on(USER, "resp_b", "resp_c", sent=3)
    begun.go_on(USER, "resp_c", "resp_d", sent=0)
    assert [kind for kind in kinds(simulator) if kind != "upgrade"][-2:] == ["increment", "whole"]


def test_a_post_in_place_of_the_connection_has_the_whole_input(begun, simulator):
    simulator.script(messages(then=1009))
    begun.go_on(USER, "resp_b", "resp_c", sent=3)
    assert kinds(simulator)[4:] == ["increment", "post"]
    assert comparable(simulator.dispatches[-1].body["input"]) == sent_inputs(simulator)[-1]


def test_after_a_change_the_whole_input_is_sent(begun, simulator):
    begun.go_on(USER, "resp_b", "resp_c", sent=3, reasoning={"effort": "high"})
    assert kinds(simulator)[4:] == ["whole"]
    assert len(simulator.frames[-1].body["input"]) == 6


@pytest.mark.parametrize("instructions", ["Be brief.", None])
def test_changed_instructions_replace_those_that_the_connection_holds(begun, simulator, instructions):
    begun.go_on(USER, "resp_b", "resp_c", instructions=instructions)
    begun.go_on(USER, "resp_c", "resp_d", sent=5, instructions=instructions)
    assert kinds(simulator)[4:] == ["whole", "increment"]
    for items in sent_inputs(simulator)[-2:]:
        said = [item["content"][0]["text"] for item in items if isinstance(item, dict) and item["role"] == "developer"]
        assert said == ([instructions] if instructions else [])
    assert simulator.findings == []


def test_a_fork_reads_its_history_again(begun, simulator):
    begun.go_on({"role": "user", "content": "otherwise"}, "resp_a", "resp_c")
    assert kinds(simulator)[4:] == ["whole"]
    begun.go_on(USER, "resp_c", "resp_d", sent=3)
    assert kinds(simulator)[5:] == ["increment"] and simulator.findings == []


def test_nothing_is_held_of_what_was_compacted(begun, simulator):
    simulator.script(reply(compaction()))
    begun.go_on({"type": "compaction_trigger"}, "resp_b", "resp_c", sent=3)
    begun.histories["resp_c"] = begun.histories["resp_c"][-1:]
    begun.go_on(USER, "resp_c", "resp_d")
    assert kinds(simulator)[4:] == ["increment", "whole"]


def test_call_ids_and_ids_stay_unique_over_increments(begun, simulator):
    """The state of what was sent decides, not only what is new."""
    for number in range(3):
        simulator.script(reply(text(f"answer {number}")))
        previous, made = f"resp_{'bcd'[number]}", f"resp_{'cde'[number]}"
        added = {**USER, "type": "message", "id": "msg_same"}
        begun.go_on(added, previous, made, sent=3 + 2 * number)
    ids = [item["id"] for item in simulator.frames[-1].whole["input"] if "id" in item]
    assert len(ids) == len(set(ids)) and "msg_same" in ids
