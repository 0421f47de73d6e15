"""What the plugin adds to ``/metrics``, and what its models cost."""

import json

import pytest
from floway_codex.catalogue import load_prices
from floway_codex.simulator import Simulator, reply, text
from prometheus_client.parser import text_string_to_metric_families

from floway_core.protocol.usage import Tokens

from . import gateways

PREFIX = "floway_codex_"
MILLION = Tokens(input=1_000_000, cached=0, output=0, reasoning=0)
CACHED = Tokens(input=1_000_000, cached=1_000_000, output=0, reasoning=0)
OUTPUT = Tokens(input=0, cached=0, output=1_000_000, reasoning=0)


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(simulator):
    with gateways.start(simulator, workers="2", metrics="open") as running:
        gateways.import_account(running, simulator.new_account(access_lifetime=-60), "--name", "work")
        yield running


@pytest.fixture
def scrape(gateway):
    """The plugin's samples: values by name and by those of the labels."""

    def scrape():
        answer = gateways.caller(gateway).get("/metrics")
        families = text_string_to_metric_families(answer.body.decode())
        samples = [sample for family in families for sample in family.samples]
        return {
            (sample.name.removeprefix(PREFIX), *(sample.labels[name] for name in sorted(sample.labels))): sample.value
            for sample in samples
            if sample.name.startswith(PREFIX)
        }

    return scrape


def test_renewals_health_and_quota(simulator, gateway, scrape):
    before = scrape()
    assert before == {("account_usable", "work"): 1}
    assert gateways.ask(gateway).status == 200
    assert scrape()["token_refreshes_total", "renewed", "proactive_expiry"] == 1
    simulator.expire_access_tokens()
    assert gateways.ask(gateway).status == 200
    after = scrape()
    assert after["token_refreshes_total", "renewed", "unauthorized_recovery"] == 1
    (limit,) = gateways.status(gateway)[0]["limits"]
    for window in ("primary", "secondary"):
        assert after["quota_used_percent", "codex", "work", window] == limit[window]["used_percent"]
        assert after["quota_reset_seconds", "codex", "work", window] == limit[window]["resets_at"]
    simulator.expire_access_tokens()
    simulator.expire_refresh_tokens()
    assert gateways.ask(gateway).status == 503
    refused = scrape()
    assert refused["token_refreshes_total", "refused", "unauthorized_recovery"] == 1
    assert refused["account_usable", "work"] == 0


def test_a_turn_is_priced(simulator):
    with gateways.start(simulator) as running:
        gateways.import_account(running, simulator.new_account())
        simulator.script(reply(text("pong"), total_tokens=50_000, cached_tokens=1_000))
        assert gateways.ask(running).status == 200
        running.stop()
        (row,) = json.loads(running.run("usage", "--json").stdout)
    uncached = row["input_tokens"] - row["cached_tokens"]
    cost = (uncached * 5 + row["cached_tokens"] * 0.5 + row["output_tokens"] * 30) / 1e6
    assert row["cached_tokens"] == 1_000 and row["cost_usd"] == pytest.approx(cost)


@pytest.mark.parametrize(
    ("model", "tier", "rates"),
    [
        ("gpt-5.5", "", (5, 0.5, 30)),
        ("gpt-5.5", "default", (5, 0.5, 30)),
        ("gpt-5.5", "flex", (2.5, 0.25, 15)),
        ("gpt-5.5", "priority", (12.5, 1.25, 75)),
        ("gpt-5.4", "", (2.5, 0.25, 15)),
        ("gpt-5.4", "flex", (1.25, 0.13, 7.5)),
        ("gpt-5.4-mini", "priority", (1.5, 0.15, 9)),
        ("codex-auto-review", "priority", (5, 0.5, 30)),
        ("codex-auto-review", "some other", (2.5, 0.25, 15)),
    ],
)
def test_prices(model, tier, rates):
    price = load_prices()[model]
    assert tuple(price.cost(tokens, tier) for tokens in (MILLION, CACHED, OUTPUT)) == pytest.approx(rates)


def test_other_models_have_no_price():
    assert "gpt-9" not in load_prices()
