"""Items of many kinds are converted and shaped as by a plain description of it: the same keys, order and values."""

import hashlib
import json
import random
import uuid

import pytest
from floway_codex.attempt import _read_items
from floway_codex.identity.sessions import count_compactions_after_seed, select_seed
from floway_codex.identity.uuids import format_uuid
from floway_codex.wire import shapes
from floway_codex.wire.input_state import InputState
from floway_codex.wire.items import convert_input, is_acceptable_id, item_kind, to_call_id
from floway_codex.wire.profile import load_profiles
from floway_codex.wire.shaping import shape_items

PROFILES = list(load_profiles().values())
THREAD = "0190f0f0-aaaa-7aaa-8aaa-0123456789ab"
TEXTS = ("input_text", "output_text", "text")
INCIDENTAL = {"annotations", "id", "logprobs", "status"}
USUAL_TYPES = ["message"] * 12 + ["function_call", "function_call_output"] * 5 + ["reasoning"] * 4
OTHER_TYPES = (
    "custom_tool_call custom_tool_call_output item_reference compaction compaction_summary additional_tools unknown "
    "agent_message web_search_call instructions"
).split()
ODD_TYPES = ["message user", "part input_text", None, 9, ["message"]]
VALUES = {
    "role": ["user", "user", "assistant", "developer", "system", "tool", None, 7],
    "call_id": ["call_1", "call_2", "call_3", "c" * 70, "bad call", "", None, 5],
    "output": ["done", [], None, {"a": None}],
    "encrypted_content": ["enc", "enc", "", None],
    "action": [{"query": None, "type": "search"}, {}, "x", None],
    "id": ["msg_1", "msg_2", "rs_1", "fc_1", "fco_1", "bad id", "msg_" + "1" * 80, 7, ["x"], None],
    "status": ["completed", None],
    "phase": ["final", None],
    "unknown": [{"n": None}, None],
    "summary": [[]],
    "internal_chat_message_metadata_passthrough": [{"turn_id": "t"}],
}
USUAL = {"message": {"role"}, "function_call": {"call_id"}, "function_call_output": {"call_id", "output"}}


def make_part(chance):
    part = {"type": chance.choice([*TEXTS, "input_text", "input_image", None, 7]), "text": chance.choice(["Hi", None])}
    part |= {name: chance.choice([[], None]) for name in ("annotations", "logprobs", "id") if chance.random() < 0.1}
    return chance.choice([*[part] * 20, dict(reversed(part.items())), "text", None])


def make_item(chance):
    if chance.random() < 0.03:
        return chance.choice(["text", None, 4])
    item = {"type": chance.choice([*USUAL_TYPES, *OTHER_TYPES, *ODD_TYPES])}
    usual = USUAL.get(str(item["type"]), set())
    for name, values in VALUES.items():
        if name in usual or chance.random() < 0.15:
            item[name] = chance.choice(values)
    parts = [make_part(chance) for _ in range(chance.choice([1, 1, 1, 2, 0]))]
    if item["type"] in ("message", None) or chance.random() < 0.1:
        item["content"] = chance.choice([parts, parts, parts, "Hi", None])
    if "output" in item and chance.random() < 0.3:
        item["output"] = parts
    names = list(item)
    if chance.random() < 0.2:
        chance.shuffle(names)
    return {name: item[name] for name in names}


# ---------------------------------------------------------------------------------------------------- the plain way
def convert_each(items, state):
    converted = []
    for item in items:
        if not isinstance(item, dict):
            converted.append(item)
        elif item.get("type") != "item_reference" and (
            item.get("type") != "reasoning" or item.get("encrypted_content")
        ):
            converted.append(without_repeated_id(with_own_call_id(convert(item), state), state))
    return converted


def convert(item):
    content = item.get("content")
    if item.keys() == {"type", "role", "content"} and item["type"] == "message" and item["role"] == "user":
        part = content[0] if isinstance(content, list) and len(content) == 1 else None
        if isinstance(part, dict) and part == {"type": "input_text", "text": part.get("text", "")} and part["text"]:
            return item  # even if the keys are in another order
    declared = item.get("type")
    kind = declared if isinstance(declared, str) else "message" if declared is None and "role" in item else ""
    made = {}
    for name, value in item.items():
        if value is None and (kind, name) != ("reasoning", "content"):
            continue
        if kind == "reasoning" and (name == "status" or (name == "content" and value)):
            continue
        if name == "output" and kind not in ("message", "reasoning") and isinstance(value, list):
            value = [convert_part(part, "input_text") for part in value]
        if name == "output" and kind == "reasoning" and not item.get("content") and isinstance(value, list):
            value = [convert_part(part, "input_text") for part in value]
        if name == "action" and isinstance(value, dict):
            value = without_nulls(value)
        if name == "call_id" and isinstance(value, str):
            value = to_call_id(value)
        if name != "id" or is_acceptable_id(kind, value):
            made[name] = value
    return convert_message(made) if kind == "message" else made


def convert_message(item):
    made = {"type": "message", **item}
    if made.get("role") == "system":
        made["role"] = "developer"
    text_type, content = "output_text" if made.get("role") == "assistant" else "input_text", made.get("content")
    if isinstance(content, str):
        made["content"] = [{"type": text_type, "text": content}]
    elif isinstance(content, list):
        made["content"] = [convert_part(part, text_type) for part in content]
    return made


def convert_part(part, text_type):
    if not isinstance(part, dict):
        return part
    made = without_nulls(part)
    if made.get("type") not in TEXTS:
        return made
    left_out = {"logprobs"} if text_type == "output_text" else {"logprobs", "annotations"}
    return {name: text_type if name == "type" else value for name, value in made.items() if name not in left_out}


def without_nulls(fields):
    return {name: value for name, value in fields.items() if value is not None}


def with_own_call_id(item, state):
    call_id = item.get("call_id")
    if not isinstance(call_id, str):
        return item
    if str(item.get("type")).endswith("_output"):
        state.answered_calls.add(call_id)
    elif call_id in state.answered_calls:
        state.answered_calls.remove(call_id)
        state.call_id_uses[call_id] = state.call_id_uses.get(call_id, 1) + 1
        seed = f"{call_id} {state.call_id_uses[call_id]}"
        state.new_call_ids[call_id] = f"call_{hashlib.sha256(seed.encode()).hexdigest()[:32]}"
    return {**item, "call_id": state.new_call_ids.get(call_id, call_id)}


def without_repeated_id(item, state):
    if "id" in item and item["id"] in state.ids:
        return {name: value for name, value in item.items() if name != "id"}
    state.ids |= {item["id"]} if "id" in item else set()
    return item


def shape_each(items, profile, lite):
    shaped, has_instructions = [], False
    for position, item in enumerate(items):
        kind = item_kind(item) if isinstance(item, dict) else ""
        may_be_instructions = "instructions" in profile.items and (lite or not profile.names_instructions)
        if kind == "message developer" and may_be_instructions and not has_instructions:
            has_instructions, kind = True, "instructions" if position <= 1 else kind
        made = shape(item, kind, profile, lite, position) if kind in profile.items else item
        if kind in profile.items and made.get("type") == "message" and isinstance(made.get("content"), list):
            kinds = [f"part {part.get('type')}" if isinstance(part, dict) else "" for part in made["content"]]
            pairs = zip(made["content"], kinds, strict=True)
            parts = [shape(part, one, profile, lite, 0) if one in profile.items else part for part, one in pairs]
            made = {**made, "content": parts}
        shaped.append(made)
    return shaped


def shape(item, kind, profile, lite, position):
    """An item with the keys of its form: those that it has, constants, nulls, and an id."""
    form = profile.items[kind]
    ids = {name: f"{{{name}}}" for name in ("uuid4", "uuid5", "uuid7", "hex")}
    constants = form.render({"lite": "true" if lite else None, **ids})
    values = {name: value for name, value in item.items() if name in form.names or name not in INCIDENTAL}
    for name, alternatives in form.templates:
        if name in values:
            continue
        if name in INCIDENTAL and name in constants and "encrypted_content" not in item:
            value = constants[name]
            values[name] = make_id(value, position) if isinstance(value, str) and "{" in value else value
        elif any(one.is_null for one in alternatives):
            values[name] = None
    return {name: values[name] for name in (*(name for name in form.names if name in values), *values)}


def make_id(template, position):
    digits = hashlib.blake2b(f"{THREAD} {position}".encode(), digest_size=25).hexdigest()
    started = int(THREAD.replace("-", "")[:12], 16)
    prefix, _, name = template.rstrip("}").partition("{")
    if name == "hex":
        return prefix + digits
    number = int((f"{started + position:012x}{digits}" if name == "uuid7" else digits)[:32], 16)
    number = number & ~(0xF << 76) & ~(0x3 << 62) | int(name[-1]) << 76 | 0x2 << 62
    return prefix + str(uuid.UUID(int=number))


# ----------------------------------------------------------------------------------------------------------- tests
@pytest.mark.parametrize("lite", [False, True])
@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.version)
def test_items_become_what_the_plain_way_makes_of_them(profile, lite):
    chance = random.Random(f"{profile.version} {lite}")
    for _ in range(400):
        given = [make_item(chance) for _ in range(chance.randint(1, 12))]
        before, short, plain = json.dumps(given), InputState(), InputState()
        converted, expected = convert_input(given, short), convert_each(given, plain)
        assert json.dumps(converted) == json.dumps(expected)
        assert short == plain and json.dumps(given) == before
        for _ in range(2):  # the second time with what is known from the first one
            shaped = shape_items(converted, profile, THREAD, lite, InputState())
            assert json.dumps(shaped) == json.dumps(shape_each(expected, profile, lite))
        assert json.dumps(given) == before


def test_shapes_are_not_kept_without_end():
    profile = PROFILES[-1]
    for number in range(2 * shapes.MAX_SHAPES):
        item = {"type": "compaction_trigger", f"key {number}": 1}
        assert shape_items([item], profile, THREAD, False, InputState()) == [item]
    assert len(profile.shapes) <= shapes.MAX_SHAPES


def test_uuids_have_the_bits_of_their_version_and_the_variant():
    for digit in "0123456789abcdef":
        made = format_uuid("0123456789abcdef" + digit + "123456789abcdef0", 7)
        assert made == str(uuid.UUID(made)) and uuid.UUID(made).version == 7
        assert int(made[19], 16) & 3 == int(digit, 16) & 3


def test_compactions_are_counted_behind_the_seed():
    chance = random.Random(1)
    for _ in range(300):
        kinds = ["compaction", "compaction_summary", "message", None, ["compaction"]]
        items = [{"type": chance.choice(kinds), "role": chance.choice(["user", None])} for _ in range(9)]
        behind = items[len(select_seed(items)) :]
        expected = len([item for item in behind if item["type"] in ("compaction", "compaction_summary")])
        assert count_compactions_after_seed(items) == expected


def test_only_objects_are_items():
    assert _read_items([{"a": 1}, "x", None, {}]) == [{"a": 1}, {}]
    assert _read_items([{"a": 1}]) == [{"a": 1}] and _read_items(7) == _read_items([]) == []
