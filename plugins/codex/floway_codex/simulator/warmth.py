"""How much of the input the backend could have had in its prompt cache: byte-equal beginnings under one cache key."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .recording import RecordedRequest

JSON = Any
SHOWN = 160
BEFORE_INPUT = ("model", "instructions", "tools", "text")
"""Fields of the body that the model reads before the input."""


@dataclass
class Warmth:
    """The share of one conversation, in bytes of the model's input."""

    cached: int = 0
    """Bytes that begin a request as they began an earlier one with the same key."""
    possible: int = 0
    """Bytes of the request before it: a history that only grows begins with all of them."""
    breaks: list[str] = field(default_factory=list)
    """Where a request does not go on with what was before it."""

    @property
    def share(self) -> float:
        """The cached part of the possible; 1 if nothing was possible."""
        return self.cached / self.possible if self.possible else 1.0


def measure(dispatches: Sequence[RecordedRequest], outputs: Sequence[Sequence[JSON]] = ()) -> Warmth:
    """Measure the dispatches of one conversation, in the order in which they were sent.

    :param outputs: the output items of each; their reasoning counts as a part of what the next request begins with.
    """
    warmth = Warmth()
    prompts = [list(prompt_parts(request.body)) for request in dispatches]
    keys = [cache_key(request) for request in dispatches]
    for number in range(1, len(dispatches)):
        before, here = prompts[number - 1], prompts[number]
        possible = size(before)
        like = [prompts[earlier] for earlier in range(number) if keys[earlier] == keys[number]]
        cached = max((size(common(earlier, here)) for earlier in like), default=0)
        warmth.possible += possible
        warmth.cached += min(cached, possible)
        if cached >= possible and number <= len(outputs):
            count_reasoning(warmth, number, outputs[number - 1], here[len(before) :])
        if keys[number] != keys[number - 1]:
            warmth.breaks.append(f"request {number}: key {keys[number]} after {keys[number - 1]}")
        elif cached < possible:
            position = len(common(before, here))
            other = here[position] if position < len(here) else b"nothing"
            warmth.breaks.append(
                f"request {number}, part {position}: {show(other)} instead of {show(before[position])}"
            )
    return warmth


def count_reasoning(warmth: Warmth, number: int, output: Sequence[JSON], added: Sequence[bytes]) -> None:
    """Add the reasoning of the last answer; added: what a request adds to the one before it."""
    for item in output:
        if sealed := item.get("encrypted_content"):
            warmth.possible += len(sealed)
            if any(sealed.encode() in part for part in added):
                warmth.cached += len(sealed)
            else:
                warmth.breaks.append(f"request {number}: without the reasoning of the last answer")


def cache_key(request: RecordedRequest) -> tuple[str, ...]:
    """What routes a request to the cache of its conversation."""
    return (
        str(request.body.get("prompt_cache_key")),
        request.header("session-id") or "",
        request.header("chatgpt-account-id") or "",
    )


def prompt_parts(body: JSON) -> Iterator[bytes]:
    """The model's input in parts, in the order in which it is read."""
    for name in BEFORE_INPUT:
        yield json.dumps([name, body.get(name)]).encode()
    for item in body["input"]:
        yield json.dumps(item).encode()


def common(first: Sequence[bytes], second: Sequence[bytes]) -> Sequence[bytes]:
    """The parts that two inputs begin with."""
    for position, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return first[:position]
    return first[: len(second)]


def size(parts: Iterable[bytes]) -> int:
    """Bytes of parts."""
    return sum(map(len, parts))


def show(part: bytes) -> str:
    """The beginning of a part."""
    return part[:SHOWN].decode()
