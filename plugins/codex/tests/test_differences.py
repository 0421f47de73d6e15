"""What the CLI sends through Floway arrives as if it had been sent to the backend itself: recordings, played again."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from floway_codex.commands.differences import FIELDS, differences, markdown_table
from floway_codex.simulator import Simulator, compaction, reply, text
from floway_codex.simulator.catalogue import Catalogue

from floway_core.testing import ApiClient, RunningGateway

from . import recordings
from .recordings import Dispatch, as_for_gateway, dispatches, scenarios

SEEN: set[str] = set()
PLAYED: set[tuple[str, str]] = set()


@pytest.fixture(scope="module")
def backend():
    with Simulator() as simulator:
        models = simulator.backend.catalogue.models
        by_slug = simulator.backend.catalogue.by_slug()
        more = [(slug, "gpt-6.1-sol") for slug in ("gpt-5.6-luna", "gpt-6-astra", "gpt-6.2-sol", "gpt-lite-test")]
        entries = [{**by_slug[like], "slug": slug} for slug, like in more]
        simulator.backend.catalogue = Catalogue((*models, *entries), 'W/"1"')
        yield simulator


@pytest.fixture(scope="module")
def client(backend, tmp_path_factory):
    settings = {
        "codex_base_url": backend.base_url,
        "codex_auth_url": backend.auth_url,
        "codex_request_encoding": "zstd",
        "codex_transport": "http",
    }
    with RunningGateway(settings, installed=["codex"]) as gateway:
        auth_file = tmp_path_factory.mktemp("auth") / "auth.json"
        auth_file.write_text(json.dumps(backend.new_account()))
        assert gateway.run("codex", "import", str(auth_file)).returncode == 0
        yield ApiClient(gateway.url, gateway.key)


def send(client, backend, sent: Dispatch, root: str = "/v1") -> tuple[int, str | None]:
    """Send a dispatch through the gateway: the status, and the turn state that the client gets."""
    compacts = sent.path.endswith("/compact") or sent.body["input"][-1]["type"] == "compaction_trigger"
    answer = compaction("ENC-COMPACTED") if compacts else text("pong")
    backend.script(reply(answer, headers={"x-codex-turn-state": sent.state}))
    dropped = ("authorization", "host", "content-length")
    headers = {name: value for name, value in sent.headers if name not in dropped}
    exchange = client.send("POST", f"{root}{sent.path}", json.dumps(sent.body).encode(), headers)
    assert exchange.body
    return exchange.status, exchange.headers.get("x-codex-turn-state")


@pytest.mark.parametrize("version, scenario", scenarios(to_gateway=False))
def test_a_request_arrives_as_if_it_had_been_sent_directly(client, backend, version, scenario):
    backend.clear()
    states: dict[str, str] = {}
    for direct in dispatches(version, scenario):
        if direct.path == "/responses/compact":
            continue  # see below
        status, state = send(client, backend, as_for_gateway(direct, states.get(direct.turn)))
        if state:
            states.setdefault(direct.turn, state)
        arrived = backend.dispatches[-1]
        # The simulator wants the newer form of responses-lite; 0.142 does not know it.
        assert status == (400 if direct.body["model"] == "gpt-lite-test" else 200)
        found = recordings.differences(direct, arrived.headers, arrived.body)
        assert set(found) <= {one.what for one in FIELDS}
        SEEN.update(found)
    PLAYED.add((version, scenario))
    assert backend.findings == []


def test_every_difference_in_the_table_is_there():
    if set(scenarios(to_gateway=False)) != PLAYED:
        pytest.skip("the recordings above have not all been played")
    assert {one.what for one in FIELDS} == SEEN


@pytest.mark.parametrize("version, scenario", scenarios(to_gateway=True))
def test_recorded_requests_to_a_gateway_reach_the_backend_in_the_order_of_direct_ones(
    client, backend, version, scenario
):
    backend.clear()
    states: dict[str, str] = {}
    direct = [one for name in ("body_options", "tool_turn", "review") for one in dispatches(version, name)]
    for sent in dispatches(version, scenario):
        headers = [
            (name, states.get(sent.turn) if name == "x-codex-turn-state" else value) for name, value in sent.headers
        ]
        named_openai = [(name, value) for name, value in headers if name not in recordings.BACKEND_ONLY]
        status, state = send(client, backend, Dispatch(sent.path, named_openai, sent.body, sent.state))
        if state:
            states.setdefault(sent.turn, state)
        arrived = backend.dispatches[-1]
        assert status == 200
        names = [name for name, _ in arrived.headers]
        orders = [[name for name, _ in one.headers if name in names] for one in direct]
        assert max(orders, key=len) == names
        assert sorted(arrived.body["client_metadata"]) == sorted(direct[0].body["client_metadata"])
    assert backend.findings == []


@pytest.mark.parametrize("root", ["/v1", "/backend-api/codex"])
def test_a_unary_compaction_arrives_as_a_turn_that_ends_with_a_trigger(client, backend, root):
    backend.clear()
    turns = dispatches("0.142.0", "compaction_unary")
    (direct,) = [one for one in turns if one.path == "/responses/compact"]
    headers = [pair for pair in direct.headers if pair[0] not in recordings.BACKEND_ONLY]
    status, _ = send(client, backend, Dispatch(direct.path, headers, direct.body, None), root)
    (arrived,) = backend.dispatches
    assert (status, arrived.body["input"]) == (200, [*direct.body["input"], {"type": "compaction_trigger"}])
    theirs, ours = (json.loads(dict(one.headers)[recordings.METADATA]) for one in (direct, arrived))
    assert theirs["compaction"]["implementation"] == "responses_compact"
    assert ours == {**theirs, "compaction": {**theirs["compaction"], "implementation": "responses_compaction_v2"}}
    recorded = dispatches("0.142.0", "compaction_pre_turn")
    trigger = next(one for one in recorded if one.body["input"][-1] == {"type": "compaction_trigger"})
    assert list(arrived.body) == list(trigger.body)
    assert arrived.body["tool_choice"] == trigger.body["tool_choice"]
    names = [name for name, _ in trigger.headers if name != "x-codex-beta-features"]  # which was off
    assert sorted(arrived.body["client_metadata"]) == sorted(trigger.body["client_metadata"])
    assert [name for name, _ in arrived.headers] == names


@pytest.mark.parametrize("version", recordings.VERSIONS)
def test_what_is_taken_for_a_request_to_a_gateway_looks_like_the_recorded_ones(version):
    made = as_for_gateway(dispatches(version, "first_turn")[0], None)
    recorded = dispatches(version, "custom_provider")[0]
    for sent in (made, recorded):
        sent.body["input"] = [sorted(item) for item in sent.body["input"]]
    assert [name for name, _ in made.headers] == [name for name, _ in recorded.headers]
    assert list(made.body) == list(recorded.body)
    assert made.body["input"] == recorded.body["input"]
    assert sorted(made.body["client_metadata"]) == sorted(recorded.body["client_metadata"])
    metadata = [list(json.loads(dict(sent.headers)[recordings.METADATA])) for sent in (made, recorded)]
    assert metadata[0] == metadata[1]


def test_the_table_is_printed_and_in_the_readme():
    assert CliRunner().invoke(differences).output.strip() == markdown_table()
    assert markdown_table() in (Path(__file__).parents[1] / "README.md").read_text()
