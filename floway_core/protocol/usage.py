"""The tokens that a response has used: reading them, and making the ``usage`` object whole."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Tokens(NamedTuple):
    """What a response has used."""

    input: int
    cached: int
    """Part of ``input``."""
    output: int
    reasoning: int
    """Part of ``output``."""


NO_TOKENS = Tokens(0, 0, 0, 0)

MAX_TOKENS = 10**9
"""More than any response uses. A number beyond it is nonsense, which must not spoil sums."""

# Where the numbers stand: in the Responses API, and in Chat Completions, whose names some upstreams use here, too.
_INPUT, _OUTPUT = ("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")
_DETAILS = (
    ("input_tokens_details", ("input_tokens_details", "prompt_tokens_details"), "cached_tokens"),
    ("output_tokens_details", ("output_tokens_details", "completion_tokens_details"), "reasoning_tokens"),
)


def complete_usage(usage: Any) -> dict[str, Any] | None:
    """``usage`` as strict clients need it: all counts and both details are numbers; None when it cannot be told.

    Fields beyond those stay as they are.
    """
    if not isinstance(usage, dict):
        return None
    used, made, total = _count(usage, _INPUT), _count(usage, _OUTPUT), _count(usage, ("total_tokens",))
    if used is None and made is not None and total is not None and total >= made:
        used = total - made
    if made is None and used is not None and total is not None and total >= used:
        made = total - used
    if used is None or made is None:
        return None
    whole = {**usage, "input_tokens": used, "output_tokens": made}
    whole["total_tokens"] = used + made if total is None else total
    for name, places, count in _DETAILS:
        details = next((usage[place] for place in places if isinstance(usage.get(place), dict)), {})
        whole[name] = {**details, count: _count(details, (count,)) or 0}
    return whole


def usage_of(response: Mapping[str, Any]) -> Tokens:
    """The tokens of a response object; 0 for what it does not say."""
    usage = complete_usage(response.get("usage"))
    if usage is None:
        return NO_TOKENS
    return Tokens(
        usage["input_tokens"],
        usage["input_tokens_details"]["cached_tokens"],
        usage["output_tokens"],
        usage["output_tokens_details"]["reasoning_tokens"],
    )


def _count(values: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = values.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS:
            return value
    return None
