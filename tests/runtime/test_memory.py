"""Estimates of the memory of a parsed body: JSON values count, brackets in strings do not."""

import json
import random
import tracemalloc

import pytest

from floway_core.protocol import jsontext
from floway_core.runtime import memory

KEPT_BY_PARSER = 2000
"""Bytes that the standard library's parser may allocate for itself in a call."""
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


@pytest.mark.parametrize(
    "part",
    ["1", "1.5", '""', '"text"', '"é"', '"\\ud83d"', "[]", "{}", "[1]", "[[[[]]]]", '{"a":1}', '{"":{"":{"":{"":1}}}}',
     '{"a":1,"b":[2,3],"c":{},"d":"e","f":null}', '{"%d":"b"}', '{"' + "long" * 20 + '%d":true}'],
)  # fmt: skip
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_values_need_no_more_memory_than_is_reserved_for_them(part, count):
    parts = [part % number if "%d" in part else part for number in range(count)]
    for text in (f"[{','.join(parts)}]", "{" + ",".join(f'"{number}":{one}' for number, one in enumerate(parts)) + "}"):
        data = text.encode()
        jsontext.loads(data)  # names that the parser remembers
        tracemalloc.start()
        try:
            value = jsontext.loads(data)
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        texts = memory.text_width(data) * len(data)
        assert used <= jsontext.measure(value).values * memory.VALUE_SIZE + texts + KEPT_BY_PARSER
