"""What a body takes in memory: the values of its JSON are counted, and what looks like some in its strings is not."""

import json
import random

import pytest

from floway_core.runtime import memory

ALPHABET = 'ab,:[]{}"\\\né'


@pytest.mark.parametrize("slice_bytes", [7, 64, memory.SLICE_BYTES])
@pytest.mark.parametrize("filler", ["", "x" * 300])
def test_only_what_is_outside_of_strings_counts(monkeypatch, slice_bytes, filler):
    monkeypatch.setattr(memory, "SLICE_BYTES", slice_bytes)
    made = random.Random(f"{slice_bytes} {filler}")
    for _ in range(200):
        texts = ["".join(made.choices([*ALPHABET, filler], k=made.randint(0, 60))) for _ in range(4)]
        text = json.dumps({name: [name, {}] for name in texts}, ensure_ascii=made.random() < 0.5).encode()
        members = len(set(texts))
        expected = {b",": 2 * members - 1, b":": members, b"[": members, b"{": members + 1}
        assert memory.count_values(text) == expected, text
