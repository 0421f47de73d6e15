"""Lost connections, and messages that are odd or huge."""

import json

import pytest
from floway_codex.provider import CodexProvider
from floway_codex.simulator import messages, reply, text

from floway_core.errors import UpstreamBroken, UpstreamTimeout

from .asking import (
    COMPLETED,
    CREATED,
    DELTA,
    STARTED,
    USER,
    drive,
    kinds,
    outputs,
    with_settings,
)


@pytest.mark.parametrize("then", ["cut", 1000, 1012])
def test_a_connection_lost_before_content_is_one_more_request(ask, simulator, waits, then):
    simulator.script(messages(CREATED, then=then))
    status, content = ask()
    assert status == 200 and content.count(b"event: response.created") == 1
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"] and waits == [0.2]


@pytest.mark.parametrize("then", ["cut", 1000, 1012])
def test_a_connection_lost_behind_content_is_a_cut_answer(ask, simulator, waits, then):
    simulator.script(messages(CREATED, DELTA, then=then))
    with pytest.raises(UpstreamBroken, match="in the middle of its answer"):
        ask()
    assert ask()[0] == 200
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"] and waits == []


def test_after_five_reconnects_a_post_is_sent(ask, simulator, waits):
    simulator.script(*[messages(CREATED, then="cut") for _ in range(6)])
    assert ask()[0] == 200
    assert kinds(simulator) == [*STARTED, *["upgrade", "whole"] * 5, "post"]
    assert waits == [0.2, 0.4, 0.8, 1.5, 3.2]


@pytest.mark.parametrize("raw", [b"\xff" * 40, b"\x81\x7f" + b"\xff" * 8, b"\x83\x00", b"\xf1\x00"])
def test_bytes_that_are_no_frames_are_a_lost_connection(ask, simulator, waits, raw):
    simulator.script(messages(CREATED, raw=raw))
    assert ask()[0] == 200
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"]


def test_messages_that_are_no_events_are_ignored(ask, simulator):
    simulator.script(messages(b"no JSON", b"[1]", b'{"type":7}', b'"text"', b"{}", CREATED, DELTA, COMPLETED))
    status, content = ask()
    assert status == 200 and content.count(b"event: ") == 3


def test_line_breaks_between_tokens_do_not_break_the_stream(ask, simulator):
    simulator.script(messages(json.dumps(DELTA, indent=1).encode(), json.dumps(COMPLETED, indent=1).encode()))
    _, content = ask()
    assert [block.count(b"\n") for block in content.split(b"\n\n")] == [1, 1, 0]


def test_a_close_frame_1009_means_post_at_once(ask, simulator, waits):
    simulator.script(messages(then=1009))
    assert ask()[0] == 200
    assert kinds(simulator) == [*STARTED, "post"] and waits == []


def test_a_message_that_is_longer_than_announced_is_a_post(ask, simulator, waits):
    simulator.websockets.max_message_bytes = 5000
    assert ask()[0] == 200
    assert ask([USER, *[{"role": "user", "content": "x" * 5000}]])[0] == 200
    assert kinds(simulator) == [*STARTED, "post"]
    assert ask()[0] == 200
    assert kinds(simulator)[4:] == ["upgrade", "whole"]


@pytest.mark.parametrize(
    "fragment_bytes, compresses", [(None, True), (None, False), (7, True), (7, False), (60_000, True)]
)
def test_huge_and_fragmented_messages(ask, simulator, fragment_bytes, compresses):
    simulator.websockets.fragment_bytes, simulator.websockets.compresses = fragment_bytes, compresses
    said = "0123456789" * (200_000 if fragment_bytes != 7 else 500)
    simulator.script(reply(text(said, chunks=3)))
    status, content = ask([{"role": "user", "content": said}])
    (item,) = outputs(content)
    assert status == 200 and item["content"][0]["text"] == said
    assert simulator.frames[-1].body["input"][0]["content"][0]["text"] == said


def test_compressed_frames_are_short(ask, simulator):
    said = [{"role": "user", "content": "the same again " * 10_000}]
    ask(said)
    assert simulator.websockets.bytes_received < 10_000


def test_a_backend_that_never_answers_is_a_timeout(attempt, simulator, services):
    simulator.script(messages(then="hang"))
    provider = CodexProvider(with_settings(services, first_byte_timeout=0.1))
    started = attempt()
    started.provider = provider
    with pytest.raises(UpstreamTimeout):
        drive(started)
    assert simulator.frames[-1].client_gone.wait(60)
