"""What Floway sends over WebSockets is what the CLI sends: recorded conversations, played through a gateway."""

import json

import pytest
from floway_codex.simulator import Simulator, messages
from floway_codex.simulator.catalogue import Catalogue

from floway_core.testing import ApiClient

from .. import gateways, recordings
from .playing import (
    frame_differences,
    play,
    read_conversation,
    upgrade_differences,
    without_passthrough,
)

NO_STATE = {"x-codex-turn-state": None}


@pytest.fixture(scope="module")
def backend():
    with Simulator() as simulator:
        models, by_slug = simulator.backend.catalogue.models, simulator.backend.catalogue.by_slug()
        more = [(slug, "gpt-6.1-sol") for slug in ("gpt-5.6-luna", "gpt-6-astra", "gpt-6.2-sol")]
        entries = [{**by_slug[like], "slug": slug} for slug, like in more if slug not in by_slug]
        simulator.backend.catalogue = Catalogue((*models, *entries), 'W/"1"')
        yield simulator


@pytest.fixture(scope="module")
def gateway(backend):
    with gateways.start(backend, codex_transport="auto") as running:
        gateways.import_account(running, backend.new_account())
        yield running


@pytest.fixture
def client(gateway, backend) -> ApiClient:
    """A client whose threads the gateway does not know yet, as a process of the CLI that has just started."""
    backend.clear()
    return ApiClient(gateway.url, gateways.create_key(gateway))


def play_all(client, backend, conversation) -> None:
    """Play a conversation, and compare each upgrade, warm-up and frame with the recorded one."""
    for recorded in conversation:
        upgrades, frames = len(backend.upgrades), len(backend.frames)
        answer = play(client, backend, recorded, headers=NO_STATE)
        assert (answer.status, b"response.completed" in answer.body) == (200, True), answer.body
        new_upgrades, new_frames = backend.upgrades[upgrades:], backend.frames[frames:]
        assert len(new_upgrades) == recorded.is_first
        for upgrade in new_upgrades:
            assert upgrade_differences(recorded.upgrade, upgrade.headers) == []
        expected = [one for one in (recorded.warmup, recorded.frame) if one]
        assert len(new_frames) == len(expected)
        for wanted, sent in zip(expected, new_frames, strict=True):
            assert frame_differences(wanted.body, sent.body) == []
    assert backend.findings == []


@pytest.mark.parametrize("version", recordings.VERSIONS)
@pytest.mark.parametrize("phase", ["turn 1", "turn 2 (resumed)"])
def test_upgrade_warm_up_and_increments(client, backend, version, phase):
    conversation = read_conversation(version, "websocket", phase)
    play_all(client, backend, conversation)
    assert conversation[0].warmup and conversation[0].is_first


@pytest.mark.parametrize("version", recordings.VERSIONS)
def test_a_compaction_is_an_increment_and_what_follows_it_is_the_whole_input(client, backend, version):
    conversation = [one for one in read_conversation(version, "websocket_tui") if not one.is_of_title]
    play_all(client, backend, conversation)
    assert [one.whole[-1]["type"] for one in conversation] == ["message", "message", "compaction_trigger", "message"]


@pytest.mark.parametrize("version", recordings.VERSIONS[1:])
def test_a_title_thread_has_a_connection_of_its_own(client, backend, version):
    """The CLI warms it up before it knows effort and format of the turn, so that the turn cannot build on it. Floway
    knows both."""
    (recorded,) = [one for one in read_conversation(version, "websocket_tui") if one.is_of_title]
    assert play(client, backend, recorded, headers=NO_STATE).body
    (upgrade,) = backend.upgrades
    assert set(upgrade_differences(recorded.upgrade, upgrade.headers)) <= {recordings.METADATA}
    _, frame = backend.frames
    assert set(frame_differences(recorded.frame.body, frame.body)) <= {"order", "input"}
    assert "previous_response_id" in frame.body and "previous_response_id" not in recorded.frame.body


@pytest.mark.parametrize("version", recordings.VERSIONS)
def test_after_a_lost_connection_the_whole_input_goes_over_a_new_one(client, backend, version):
    first, cut, again = read_conversation(version, "websocket", "turn 3 (resumed; connection lost)")
    assert (cut.is_first, again.is_first, again.warmup) == (False, True, None)
    play_all(client, backend, [first])
    answer = play(client, backend, cut, cut_after=8, headers=NO_STATE)
    assert b"upstream_disconnected" in answer.body and b"response.completed" not in answer.body
    play_all(client, backend, [again])


@pytest.mark.parametrize("version", recordings.VERSIONS)
def test_the_upgrade_of_a_sub_agent(client, backend, version):
    """Its upgrades were recorded with a backend that refuses them; the turns are those of the POSTs that followed. The
    two recordings number their ids differently."""
    upgrades = {dict(one.headers)["thread-id"]: one for one in recordings.websocket_messages(version, "subagent")}
    posts = [one for one in recordings.dispatches(version, "subagent") if dict(one.headers).get("x-openai-subagent")]
    sent = recordings.as_for_gateway(posts[0], None)
    headers = {name: value for name, value in sent.headers if name not in ("authorization", "host", "content-length")}
    answer = client.send("POST", f"/v1{sent.path}", json.dumps(sent.body).encode(), headers)
    assert answer.status == 200 and answer.body
    (upgrade,) = backend.upgrades
    recorded = next(one for one in upgrades.values() if "x-openai-subagent" in dict(one.headers))
    assert [name for name, _ in upgrade.headers] == [name for name, _ in recorded.headers]
    there, here = (json.loads(dict(one.headers)[recordings.METADATA]) for one in (recorded, upgrade))
    assert list(there) == list(here)
    same = [name for name in there if not name.endswith("_id") or name == "turn_id"]
    assert [there[name] for name in same] == [here[name] for name in same]


def test_the_turn_state_of_an_event_is_in_the_next_frames_of_the_turn_only(client, backend):
    conversation = read_conversation("0.171.0", "websocket_turn_state", "mid-turn compaction with state")
    first, *rest = conversation
    answer = play(client, backend, first, headers={"x-codex-turn-state": "TS-C"})
    state = answer.headers["x-codex-turn-state"]
    assert answer.body and state != "TS-C"
    for recorded in rest:
        assert recorded.turn_state == "TS-C"
        answer = play(client, backend, recorded, state, headers={"x-codex-turn-state": "TS-D"})
        assert answer.body
        assert frame_differences(recorded.frame.body, backend.frames[-1].body) == []
    (event,) = [one for one in answer.events() if one["type"] == "response.metadata"]
    assert event["headers"]["x-codex-turn-state"] not in ("TS-C", "TS-D")
    assert not any(one.header("x-codex-turn-state") for one in backend.upgrades)


def test_a_post_in_a_turn_has_the_turn_state_as_its_header(client, backend):
    """As recorded after a close frame with code 1009: the same turn goes on with a POST at once."""
    first, *_ = read_conversation(
        "0.171.0", "websocket_turn_state", "turn 1: states TS-A, TS-B; connection lost; close 1009"
    )
    state = {"type": "response.metadata", "headers": {"x-codex-turn-state": "TS-A"}}
    backend.script(messages(state, then=1009))
    answer = play(client, backend, first)
    assert answer.status == 200 and answer.body
    (posted,) = backend.dispatches
    assert posted.header("x-codex-turn-state") == "TS-A"
    assert posted.body["input"] == without_passthrough(first.whole)
    assert len(backend.upgrades) == 1
