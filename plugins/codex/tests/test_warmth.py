"""The backend's prompt cache stays warm, and the measure of it sees what would make it cold."""

from dataclasses import replace

import pytest
from click.testing import CliRunner
from floway_codex.commands import warmth
from floway_codex.simulator import Simulator
from floway_codex.simulator.warmth import measure

from floway_core.testing import RunningGateway

from . import gateways

pytestmark = pytest.mark.soak  # long: many processes, or waits


def run(transport):
    """A simulated backend, and a gateway that sends over a transport."""
    with Simulator() as simulator:
        settings = gateways.settings(simulator, codex_transport=transport)
        with RunningGateway(settings, installed=warmth.needed_plugins()) as gateway:
            gateways.import_account(gateway, simulator.new_account())
            yield simulator, gateway


@pytest.fixture(scope="module")
def running():
    yield from run("http")


@pytest.fixture(scope="module")
def running_over_websocket():
    yield from run("auto")


def keeps_its_beginning(simulator, gateway, model, kind):
    found = warmth.run_conversation(simulator, warmth.make_asker(gateway.url, gateway.key, model), kind)
    assert found.share >= warmth.TARGET, found.breaks
    assert found.possible > 500_000 and len(simulator.turns) == 2 * warmth.TURNS
    assert simulator.findings == []


@pytest.mark.parametrize("model", warmth.MODELS)
@pytest.mark.parametrize("kind", warmth.available_kinds())
def test_thirty_turns_with_tools_and_reasoning_keep_their_beginning(running, model, kind):
    keeps_its_beginning(*running, model, kind)
    assert not running[0].frames


@pytest.mark.parametrize("kind", warmth.available_kinds())
def test_they_do_over_a_websocket(running_over_websocket, kind):
    keeps_its_beginning(*running_over_websocket, warmth.MODELS[-1], kind)
    assert not running_over_websocket[0].dispatches


@pytest.fixture
def sent(running):
    """The dispatches of a short conversation."""
    warmth.run_conversation(running[0], warmth.make_asker(running[1].url, running[1].key, warmth.MODELS[0]), "by id", 2)
    return running[0].dispatches


def test_another_key_is_a_cold_start(sent):
    assert measure(sent).share == 1
    cold = [replace(one, body={**one.body, "prompt_cache_key": str(number)}) for number, one in enumerate(sent)]
    assert measure(cold).share == 0 and len(measure(cold).breaks) == 3


def test_reasoning_that_does_not_come_back_is_a_loss(sent):
    thought = {"type": "reasoning", "encrypted_content": "sealed " * 99}
    found = measure(sent, [[thought]] * len(sent))
    assert found.share < measure(sent).share and "without the reasoning" in found.breaks[0]
    with_it = [replace(one, body={**one.body, "input": [*one.body["input"], thought]}) for one in sent[:2]]
    assert measure([sent[0], *with_it[1:]], [[thought]]).share == 1


@pytest.mark.parametrize("place", [0, 1, 3])
def test_an_item_that_changes_makes_what_follows_cold(sent, place):
    items = sent[-1].body["input"]
    changed = [*items[:place], {**items[place], "id": "msg_other"}, *items[place + 1 :]]
    found = measure([*sent[:-1], replace(sent[-1], body={**sent[-1].body, "input": changed})])
    assert found.share < measure(sent).share and "msg_other" in found.breaks[0]


def test_the_command_shows_the_shares_and_fails_when_it_is_cold(monkeypatch):
    monkeypatch.setattr(warmth, "MODELS", warmth.MODELS[:1])
    done = CliRunner().invoke(warmth.warmth, ["--turns", "2"])
    assert done.exit_code == 0 and "by id                            1.000" in done.output, done.output
    assert len(done.output.splitlines()) >= len(warmth.available_kinds())
    monkeypatch.setattr(warmth, "TARGET", 1.1)
    assert CliRunner().invoke(warmth.warmth, ["--turns", "1"]).exit_code == 1
