"""Prices: what the tokens of a model cost, as tables in TOML say."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from floway_core.errors import StartupError
from floway_core.protocol.usage import Tokens

RATES = ("input", "cached_input", "output")


@dataclass(frozen=True)
class Price:
    """USD per million tokens."""

    input: float
    output: float
    cached_input: float
    """For the part of the input that the upstream had in its cache."""
    tiers: Mapping[str, "Price"] = field(default_factory=dict)
    """For service tiers that cost something else, by the name that responses give them."""

    def cost(self, tokens: Tokens, tier: str = "") -> float:
        """USD.

        :param tier: the service tier that a response says it was served in.
        """
        rates = self.tiers.get(tier, self)
        cached = min(tokens.cached, tokens.input)
        cost = (tokens.input - cached) * rates.input + cached * rates.cached_input + tokens.output * rates.output
        return cost / 1e6


def parse_prices(text: str) -> dict[str, Price]:
    """The prices in a TOML text with a table for each model, by its name.

    It holds ``input``, ``output`` and perhaps ``cached_input`` (else as ``input``) in USD per million tokens, and
    perhaps a table for each service tier with what is different in it.

    :raises ValueError: with what is wrong.
    """
    return {name: _price(name, told) for name, told in tomllib.loads(text).items()}


def _price(name: str, told: Any) -> Price:
    if not isinstance(told, dict):
        raise ValueError(f"{name!r} is no table")
    tiers = {tier: rates for tier, rates in told.items() if isinstance(rates, dict)}
    base = {rate: _rate(name, rate, value) for rate, value in told.items() if rate not in tiers}
    if missing := [rate for rate in ("input", "output") if rate not in base]:
        raise ValueError(f"{name!r} has no {missing[0]!r}")
    whole = {"cached_input": base["input"], **base}
    overlaid = {
        tier: {**whole, **{rate: _rate(name, rate, value) for rate, value in rates.items()}}
        for tier, rates in tiers.items()
    }
    return _made(whole, {tier: _made(rates, {}) for tier, rates in overlaid.items()})


def _made(rates: Mapping[str, float], tiers: Mapping[str, Price]) -> Price:
    return Price(rates["input"], rates["output"], rates["cached_input"], tiers)


def _rate(name: str, rate: str, value: Any) -> float:
    if rate not in RATES:
        raise ValueError(f"{name!r} has {rate!r}, which is none of {', '.join(RATES)}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{rate!r} of {name!r} is no number from 0")
    return float(value)


def read_prices(file: Path | None) -> dict[str, Price]:
    """The prices in the operator's file; none without one.

    :raises StartupError: it cannot be read.
    """
    if file is None:
        return {}
    try:
        return parse_prices(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartupError(f"The price table {file} cannot be used: {error}") from error
