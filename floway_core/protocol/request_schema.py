"""What the fields of a request to create a response must look like, as a table: types, and ranges of numbers.

Only what the API documents is refused. Fields that are not listed pass, and so do unknown values of those that are:
upstreams may know more than this table. Null counts as absent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MOST_ITEMS = 50_000
"""In the input of one request: far more than any model takes."""


LONGEST_NAME = 64
"""Characters of a name that a client chose which are quoted."""


class Fault(NamedTuple):
    """What is wrong with a request, in the words of OpenAI's errors."""

    message: str
    code: str
    param: str


@dataclass(frozen=True)
class Rule:
    """What one value may be."""

    types: tuple[type, ...]
    expected: str
    """The same for people: "a string"."""
    least: float | None = None
    most: float | None = None
    """Of a number."""
    fields: Mapping[str, "Rule"] = field(default_factory=dict)
    """Of an object. Others may be there, too."""
    required: tuple[str, ...] = ()
    """Those of them that must be there."""
    values: "Rule | None" = None
    """Of each field of an object."""
    elements: "Rule | None" = None
    """Of each element of a list."""
    most_elements: int | None = None


STRING = Rule((str,), "a string")
BOOLEAN = Rule((bool,), "a boolean")
OBJECT = Rule((dict,), "an object")


def number(least: float, most: float) -> Rule:
    """A number in a range that includes both ends."""
    return Rule((int, float), "a number", least, most)


def whole(least: int, most: int | None = None) -> Rule:
    """A whole number, likewise."""
    return Rule((int,), "an integer", least, most)


def object_of(**fields: Rule) -> Rule:
    """An object with these fields, if it has them."""
    return Rule((dict,), "an object", fields=fields)


def list_of(elements: Rule, expected: str) -> Rule:
    """A list of such elements."""
    return Rule((list,), expected, elements=elements)


ITEM = object_of(type=STRING)
TOOL = object_of(type=STRING)

FIELDS: dict[str, Rule] = {
    "background": BOOLEAN,
    "context_management": list_of(OBJECT, "an array of objects"),
    "conversation": Rule((str, dict), "a string or an object", fields={"id": STRING}),
    "frequency_penalty": number(-2, 2),
    "include": list_of(STRING, "an array of strings"),
    "input": Rule((str, list), "a string or a list of items", elements=ITEM, most_elements=MOST_ITEMS),
    "instructions": STRING,
    "max_output_tokens": whole(1),
    "max_tool_calls": whole(0),
    "metadata": Rule((dict,), "an object", values=STRING),
    "model": STRING,
    "parallel_tool_calls": BOOLEAN,
    "presence_penalty": number(-2, 2),
    "previous_response_id": STRING,
    "prompt": Rule(
        (dict,), "an object", fields={"id": STRING, "version": STRING, "variables": OBJECT}, required=("id",)
    ),
    "prompt_cache_key": STRING,
    "prompt_cache_options": OBJECT,
    "prompt_cache_retention": STRING,
    "reasoning": object_of(effort=STRING, summary=STRING, generate_summary=STRING),
    "safety_identifier": STRING,
    "service_tier": STRING,
    "store": BOOLEAN,
    "stream": BOOLEAN,
    "stream_options": object_of(include_obfuscation=BOOLEAN),
    "temperature": number(0, 2),
    "text": object_of(format=object_of(type=STRING), verbosity=STRING),
    "tool_choice": Rule((str, dict), "a string or an object", fields={"type": STRING}),
    "tools": list_of(TOOL, "an array of objects"),
    "top_logprobs": whole(0, 20),
    "top_p": number(0, 1),
    "truncation": STRING,
    "user": STRING,
}
"""Field of the request -> what it may be."""

UNSUPPORTED = ("conversation", "background")
"""Fields that ask for what the gateway does not offer."""

SOURCES = ("input", "previous_response_id", "prompt")
"""Fields of which at least one has to say what the model is to answer."""

TYPE_NAMES = {bool: "a boolean", int: "an integer", float: "a decimal", str: "a string", list: "an array"}


def find_fault(body: Mapping[str, Any]) -> Fault | None:
    """The first thing in a request that no upstream should be asked for; None if it is well-formed."""
    return next(_faults(body), None)


def _faults(body: Mapping[str, Any]) -> Iterator[Fault]:
    if body.get("model") in (None, ""):
        yield _missing("model")
    for name, rule in FIELDS.items():
        if body.get(name) is not None:
            yield from _faults_of(body[name], rule, name)
    for name in UNSUPPORTED:
        if body.get(name):
            yield Fault(f"{name!r} is not supported.", "unsupported_parameter", name)
    if all(body.get(name) is None for name in SOURCES):
        yield _missing("input")


def _missing(name: str) -> Fault:
    return Fault(f"Missing required parameter: '{name}'.", "missing_required_parameter", name)


def _faults_of(value: Any, rule: Rule, path: str) -> Iterator[Fault]:
    """:param path: where the value stands: ``reasoning.effort``, ``tools[0]``."""
    if not _has_type(value, rule.types):
        got = TYPE_NAMES.get(type(value), "an object" if value is not None else "null")
        yield Fault(
            f"Invalid type for '{path}': expected {rule.expected}, but got {got} instead.", "invalid_type", path
        )
    elif isinstance(value, dict):
        for name in rule.required:
            if value.get(name) in (None, ""):
                yield _missing(f"{path}.{name}")
        for name, inner in rule.fields.items():
            if value.get(name) is not None:
                yield from _faults_of(value[name], inner, f"{path}.{name}")
        if rule.values:
            for name, own in value.items():
                if own is not None:
                    yield from _faults_of(own, rule.values, f"{path}.{name[:LONGEST_NAME]}")
    elif isinstance(value, list):
        if rule.most_elements is not None and len(value) > rule.most_elements:
            message = f"Invalid '{path}': an array of at most {rule.most_elements} items is expected."
            yield Fault(message, "array_above_max_length", path)
        if rule.elements:
            for place, element in enumerate(value):
                yield from _faults_of(element, rule.elements, f"{path}[{place}]")
    elif rule.least is not None and value < rule.least:
        yield _out_of_range(value, rule, path, "below", "min", f">= {rule.least}")
    elif rule.most is not None and value > rule.most:
        yield _out_of_range(value, rule, path, "above", "max", f"<= {rule.most}")


def _has_type(value: Any, types: tuple[type, ...]) -> bool:
    """To Python a boolean is an integer, and to JSON ``5.0`` is one."""
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, types) or (int in types and isinstance(value, float) and value.is_integer())


def _out_of_range(value: float, rule: Rule, path: str, side: str, bound: str, limit: str) -> Fault:
    kind = "decimal" if float in rule.types else "integer"
    message = f"Invalid '{path}': {kind} {side} {bound}imum value. Expected a value {limit}, but got {value} instead."
    return Fault(message, f"{kind}_{side}_{bound}_value", path)
