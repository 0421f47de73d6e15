"""Read the token counts of a response, and complete the ``usage`` object."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Tokens(NamedTuple):
    """Token counts of one response."""

    input: int
    cached: int
    """Part of ``input``."""
    output: int
    reasoning: int
    """Part of ``output``."""


NO_TOKENS = Tokens(0, 0, 0, 0)

MAX_TOKENS = 10**9
"""More than any response uses. A larger count is an error of the upstream and must not distort sums."""

# Names in the Responses API, and in Chat Completions: some upstreams use those here, too.
_INPUT, _OUTPUT = ("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")
_DETAILS = (
    (("input_tokens_details", "prompt_tokens_details"), ("cached_tokens", "cache_write_tokens")),
    (("output_tokens_details", "completion_tokens_details"), ("reasoning_tokens",)),
)


def complete_usage(usage: Any) -> dict[str, Any] | None:
    """Complete a ``usage`` object for strict clients: all counts and both details become numbers.

    :returns: the object itself if it is complete; else a copy, in which other fields stay unchanged; None if the
        counts cannot be determined.
    """
    if not isinstance(usage, dict):
        return None
    return usage if _read_complete(usage) is not None else _complete(usage)


def _complete(usage: Mapping[str, Any]) -> dict[str, Any] | None:
    total = _read_count(usage, ("total_tokens",))
    input_count, output_count = _read_count(usage, _INPUT), _read_count(usage, _OUTPUT)
    if input_count is None and output_count is not None and total is not None and total >= output_count:
        input_count = total - output_count
    if output_count is None and input_count is not None and total is not None and total >= input_count:
        output_count = total - input_count
    if input_count is None or output_count is None:
        return None
    complete = {**usage, "input_tokens": input_count, "output_tokens": output_count}
    complete["total_tokens"] = input_count + output_count if total is None else total
    for (name, alias), counts in _DETAILS:
        details: Mapping[str, Any] = next((usage[key] for key in (name, alias) if isinstance(usage.get(key), dict)), {})
        complete[name] = {**details, **{count: _read_count(details, (count,)) or 0 for count in counts}}
    return complete


def usage_of(response: Mapping[str, Any]) -> Tokens:
    """Read the token counts of a response object; a count that it does not state is 0."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return NO_TOKENS
    counts = _read_complete(usage)
    if counts is not None:
        return Tokens(*counts)
    complete = _complete(usage)
    if complete is None:
        return NO_TOKENS
    return Tokens(
        complete["input_tokens"],
        complete["input_tokens_details"]["cached_tokens"],
        complete["output_tokens"],
        complete["output_tokens_details"]["reasoning_tokens"],
    )


def _read_complete(usage: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the fields of ``Tokens`` from an object that needs no completion, as most upstreams send it; None if it
    does."""
    try:
        counts = (
            usage["input_tokens"],
            usage["input_tokens_details"]["cached_tokens"],
            usage["output_tokens"],
            usage["output_tokens_details"]["reasoning_tokens"],
            usage["total_tokens"],
            usage["input_tokens_details"]["cache_write_tokens"],
        )
    except (KeyError, TypeError):
        return None
    if set(map(type, counts)) != {int} or min(counts) < 0 or max(counts) > MAX_TOKENS:  # true and false are no numbers
        return None
    return counts[:4]


def _read_count(values: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """Return the first valid count under one of ``names``."""
    for name in names:
        value = values.get(name)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and 0 <= value <= MAX_TOKENS:  # true and false are no numbers
            return value
    return None
