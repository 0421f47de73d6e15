"""What clients say about themselves ends up in headers: none of it can break out of its header."""

import json
import re

from floway_codex.identity.claims import KEYS, TURN_METADATA
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BREAKS = ["\r\n", "\n", "\r\n ", "\0", "\x0b", "\x0c", "\x1c", "\x7f", "\x85", "\u2028", "\u560d\u560a", "\ud83d", "é"]
VALUE = st.lists(st.sampled_from([*BREAKS, "x-made-up: 1", "codex", "/0.142.0", ":0", " "]), max_size=4).map("".join)
ODD = VALUE | st.text(max_size=12) | st.integers() | st.none() | st.lists(VALUE, max_size=2)

HEADERS = [
    *sorted({name for places in KEYS.values() for name in places.get("header", ())}),
    "originator", "user-agent", "version", "x-codex-beta-features", "x-codex-turn-state", TURN_METADATA,
    "x-openai-internal-codex-responses-lite", "openai-beta", "accept-language",
]  # fmt: skip
IDS = sorted({name for places in KEYS.values() for place in places.values() for name in place})
METADATA = st.dictionaries(st.sampled_from(IDS) | VALUE, ODD | st.dictionaries(VALUE, ODD, max_size=2), max_size=4)
CLIENT = st.dictionaries(st.sampled_from([*IDS, TURN_METADATA]) | VALUE, ODD | METADATA.map(json.dumps), max_size=4)
GIVEN_HEADERS = st.dictionaries(st.sampled_from(HEADERS), VALUE | METADATA.map(json.dumps), max_size=5)


@settings(max_examples=80, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    headers=GIVEN_HEADERS,
    client=CLIENT | ODD,
    others=st.dictionaries(st.sampled_from(["prompt_cache_key", "service_tier", "model", "user", "metadata"]), ODD),
    is_codex=st.booleans(),
)
def test_no_header_holds_what_is_no_header_value(prepared, headers, client, others, is_codex):
    if is_codex:
        headers = {"originator": "codex_exec", "user-agent": "codex_exec/0.142.0 (x)", **headers}
    others = {name: value for name, value in others.items() if name != "model" or isinstance(value, str)}
    body = {"model": "gpt-5.5", "input": [{"role": "user", "content": "Hi"}], "client_metadata": client, **others}
    made = prepared(body, headers).headers
    for name, value in made.items():
        assert re.fullmatch(r"[A-Za-z0-9-]+", name)
        assert re.fullmatch(r"[\x20-\x7e]*", value), name
    assert "x-made-up" not in {name.lower() for name in made}
    assert isinstance(json.loads(made[TURN_METADATA]), dict)
