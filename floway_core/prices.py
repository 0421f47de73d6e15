"""Prices: the cost of a model's tokens, read from TOML tables."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from floway_core.protocol.usage import Tokens

RATES = ("input", "cached_input", "output")

BILLION = 10**9
"""Amounts of money are stored and added up as whole billionths of a USD, so that sums are exact."""

MAX_USD = 10**9
"""The greatest amount of money that is counted for one request, or that a budget may have."""


def to_billionths(usd: float) -> int:
    """Return an amount of USD in billionths, rounded, and at most ``MAX_USD``."""
    return round(min(usd, MAX_USD) * BILLION)


@dataclass(frozen=True)
class Price:
    """Rates in USD per million tokens."""

    input: float
    output: float
    cached_input: float
    """The rate of input tokens that the upstream read from its cache."""
    tiers: Mapping[str, "Price"] = field(default_factory=dict)
    """Different prices of service tiers, by the name in ``service_tier`` of responses."""

    def cost(self, tokens: Tokens, tier: str = "") -> float:
        """Return the cost of ``tokens`` in USD.

        :param tier: the service tier of the response; a tier without a price has the standard price.
        """
        rates = self.tiers.get(tier, self)
        cached = min(tokens.cached, tokens.input)
        cost = (tokens.input - cached) * rates.input + cached * rates.cached_input + tokens.output * rates.output
        return cost / 1e6


def parse_prices(text: str) -> dict[str, Price]:
    """Parse a TOML text that has one table for each model; return the prices by model name.

    A table has ``input``, ``output`` and optionally ``cached_input`` (default: ``input``) in USD per million tokens. A
    nested table overrides some of these rates for one service tier.

    :raises ValueError: the text is malformed; the message explains why.
    """
    return {name: _parse_price(name, table) for name, table in tomllib.loads(text).items()}


def _parse_price(name: str, table: object) -> Price:
    if not isinstance(table, dict):
        raise ValueError(f"{name!r} is no table")
    tiers = {tier: rates for tier, rates in table.items() if isinstance(rates, dict)}
    base = {rate: _parse_rate(name, rate, value) for rate, value in table.items() if rate not in tiers}
    if missing := [rate for rate in ("input", "output") if rate not in base]:
        raise ValueError(f"{name!r} has no {missing[0]!r}")
    standard = {"cached_input": base["input"], **base}
    tier_rates = {
        tier: {**standard, **{rate: _parse_rate(name, rate, value) for rate, value in rates.items()}}
        for tier, rates in tiers.items()
    }
    return _to_price(standard, {tier: _to_price(rates, {}) for tier, rates in tier_rates.items()})


def _to_price(rates: Mapping[str, float], tiers: Mapping[str, Price]) -> Price:
    return Price(rates["input"], rates["output"], rates["cached_input"], tiers)


def _parse_rate(name: str, rate: str, value: object) -> float:
    if rate not in RATES:
        raise ValueError(f"{name!r} has {rate!r}; allowed are {', '.join(RATES)}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{rate!r} of {name!r} is not a number, or is negative")
    return float(value)


@dataclass(frozen=True)
class PriceTable:
    """The operator's price table."""

    file: Path
    prices: Mapping[str, Price]
    """By the name of the model."""

    def __str__(self) -> str:
        return str(self.file)


def read_price_table(file: Path) -> PriceTable:
    """Read a price table.

    :raises ValueError: the file cannot be read or parsed; the message explains why.
    """
    try:
        return PriceTable(file, parse_prices(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
