"""The schema of a request to create a response, as a table: types of fields and ranges of numbers.

A request is rejected only if it violates the documentation of the API. Fields that are not listed and unknown values
pass, because an upstream may support more than this table. Null counts as absent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, NamedTuple

from floway_core.protocol.items import is_reference

MAX_INPUT_ITEMS = 50_000
"""Items in ``input`` of one request: far more than any model accepts."""

MAX_QUOTED_NAME = 64
"""Characters of a name chosen by the client that an error quotes."""


class Fault(NamedTuple):
    """Why a request is invalid, as the fields of OpenAI's error object."""

    message: str
    code: str
    param: str


@dataclass(frozen=True)
class Rule:
    """The schema of one value."""

    types: tuple[type, ...]
    expected: str
    """The types in an error message, such as "a string"."""
    minimum: float | None = None
    maximum: float | None = None
    """Range of a number."""
    fields: Mapping[str, "Rule"] = field(default_factory=dict)
    """Rules for fields of an object. Other fields are allowed."""
    required: tuple[str, ...] = ()
    """Fields that an object must have."""
    values: "Rule | None" = None
    """Rule for every field of an object."""
    elements: "Rule | None" = None
    """Rule for every element of a list."""
    max_elements: int | None = None


STRING = Rule((str,), "a string")
BOOLEAN = Rule((bool,), "a boolean")
OBJECT = Rule((dict,), "an object")


def number(minimum: float, maximum: float) -> Rule:
    """A number from ``minimum`` to ``maximum``, both included."""
    return Rule((int, float), "a number", minimum, maximum)


def integer(minimum: int, maximum: int | None = None) -> Rule:
    """An integer from ``minimum`` to ``maximum``, both included."""
    return Rule((int,), "an integer", minimum, maximum)


def object_of(**fields: Rule) -> Rule:
    """An object with rules for some of its fields, none of which is required."""
    return Rule((dict,), "an object", fields=fields)


def list_of(elements: Rule, expected: str) -> Rule:
    """A list whose elements follow a rule."""
    return Rule((list,), expected, elements=elements)


ITEM = object_of(type=STRING)
TOOL = object_of(type=STRING)

FIELDS: dict[str, Rule] = {
    "background": BOOLEAN,
    "context_management": list_of(OBJECT, "an array of objects"),
    "conversation": Rule((str, dict), "a string or an object", fields={"id": STRING}, required=("id",)),
    "frequency_penalty": number(-2, 2),
    "include": list_of(STRING, "an array of strings"),
    "input": Rule((str, list), "a string or a list of items", elements=ITEM, max_elements=MAX_INPUT_ITEMS),
    "instructions": STRING,
    "max_output_tokens": integer(1),
    "max_tool_calls": integer(0),
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
    "top_logprobs": integer(0, 20),
    "top_p": number(0, 1),
    "truncation": STRING,
    "user": STRING,
}
"""Rules by field of the request."""

CONVERSATION_FIELDS: dict[str, Rule] = {
    "items": Rule((list,), "a list of items", elements=ITEM, max_elements=MAX_INPUT_ITEMS),
    "metadata": FIELDS["metadata"],
}
"""Rules by field of a request that creates or changes a conversation."""

SOURCES = ("input", "previous_response_id", "conversation", "prompt")
"""Fields with input for the model. At least one is required."""

TYPE_NAMES = {bool: "a boolean", int: "an integer", float: "a decimal", str: "a string", list: "an array"}


def find_fault(body: Mapping[str, Any]) -> Fault | None:
    """Return the first violation of the schema in a request body; None if there is none."""
    if body.get("model") in (None, ""):
        return _missing("model")
    if fault := find_field_fault(body, FIELDS):
        return fault
    if body.get("background") and body.get("store") is False:
        message = "'background' needs a stored response: omit 'store', or set it to true."
        return Fault(message, "mutually_exclusive_parameters", "background")
    if body.get("conversation") is not None and body.get("previous_response_id") is not None:
        message = "Mutually exclusive parameters: provide only one of 'previous_response_id' or 'conversation'."
        return Fault(message, "mutually_exclusive_parameters", "conversation")
    if body.get("input") is None and all(body.get(name) is None for name in SOURCES):
        return _missing("input")
    return None


def find_field_fault(body: Mapping[str, Any], fields: Mapping[str, Rule]) -> Fault | None:
    """Return the first field of a request body that breaks its rule; None if there is none. Null counts as absent.

    :param fields: rules by field; other fields are allowed.
    """
    for name, value in body.items():  # a request has fewer fields than the table
        if value is not None and name in fields and (fault := _find_value_fault(value, fields[name], name)):
            return fault
    return None


def find_item_fault(item: Mapping[str, Any], path: str) -> Fault | None:
    """Return the missing field of an item that is to be stored, because it would make all later turns fail.

    :param path: path of the item in the request, such as ``items[0]``.
    """
    if is_reference(dict(item)):
        return None
    if item.get("type") is None and item.get("role") is None:
        return _missing(f"{path}.type")
    if item.get("type") in (None, "message"):
        if not isinstance(item.get("role"), str):
            return _missing(f"{path}.role")
        if not isinstance(item.get("content"), str | list):
            return _missing(f"{path}.content")
    return None


def _missing(name: str) -> Fault:
    return Fault(f"Missing required parameter: '{name}'.", "missing_required_parameter", name)


def _find_value_fault(value: Any, rule: Rule, path: str) -> Fault | None:
    """Return the first violation in one value; None if there is none.

    :param path: path of the value in the request, such as ``reasoning.effort`` or ``tools[0]``.
    """
    kind = type(value)
    if kind not in rule.types and not _has_type(value, rule.types):
        actual = TYPE_NAMES.get(type(value), "an object" if value is not None else "null")
        message = f"Invalid type for '{path}': expected {rule.expected}, but got {actual} instead."
        return Fault(message, "invalid_type", path)
    if kind is str or kind is bool:
        return None
    if isinstance(value, dict):
        return _find_object_fault(value, rule, path)
    if isinstance(value, list):
        return _find_list_fault(value, rule, path)
    if rule.minimum is not None and value < rule.minimum:
        return _out_of_range(value, rule, path, "below", "min", f">= {rule.minimum}")
    if rule.maximum is not None and value > rule.maximum:
        return _out_of_range(value, rule, path, "above", "max", f"<= {rule.maximum}")
    return None


def _find_object_fault(value: dict[str, Any], rule: Rule, path: str) -> Fault | None:
    for name in rule.required:
        if value.get(name) in (None, ""):
            return _missing(f"{path}.{name}")
    for name, field_rule in rule.fields.items():
        part = value.get(name)
        if part is not None and (fault := _find_value_fault(part, field_rule, f"{path}.{name}")):
            return fault
    if rule.values:
        for name, part in value.items():
            part_path = f"{path}.{name[:MAX_QUOTED_NAME]}"
            if part is not None and (fault := _find_value_fault(part, rule.values, part_path)):
                return fault
    return None


def _find_list_fault(value: list[Any], rule: Rule, path: str) -> Fault | None:
    if rule.max_elements is not None and len(value) > rule.max_elements:
        message = f"Invalid '{path}': an array of at most {rule.max_elements} items is expected."
        return Fault(message, "array_above_max_length", path)
    if rule.elements and not _are_usual(value, rule.elements):
        for index, element in enumerate(value):
            if fault := _find_value_fault(element, rule.elements, f"{path}[{index}]"):
                return fault
    return None


def _are_usual(elements: list[Any], rule: Rule) -> bool:
    """Return whether all elements follow a rule, if their types are enough to see it.

    It saves the path of each element, which only a fault needs.
    """
    kinds = set(map(type, elements))
    if kinds == {str}:
        return str in rule.types
    if kinds != {dict} or dict not in rule.types or rule.required or rule.values:
        return False
    return all(
        {type(element.get(name)) for element in elements} <= {str, NoneType} and str in field_rule.types
        for name, field_rule in rule.fields.items()
    )


def _has_type(value: Any, types: tuple[type, ...]) -> bool:
    """Return whether a value has one of the JSON types. Python counts a boolean as integer; JSON counts ``5.0``."""
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, types) or (int in types and isinstance(value, float) and value.is_integer())


def _out_of_range(value: float, rule: Rule, path: str, side: str, bound: str, limit: str) -> Fault:
    kind = "decimal" if float in rule.types else "integer"
    message = f"Invalid '{path}': {kind} {side} {bound}imum value. Expected a value {limit}, but got {value} instead."
    return Fault(message, f"{kind}_{side}_{bound}_value", path)
