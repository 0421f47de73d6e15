"""Templates: the parts of a profile whose values may differ between requests."""

import functools
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PLACEHOLDER = re.compile(r"\{([a-z_0-9]+)\}")
IF, VALUE = "if", "value"


class Template:
    """A text with ``{placeholders}``, or a constant of another type.

    A template that is a single placeholder has the value of this placeholder, of any type. ``{"if": NAME, "value":
    TEMPLATE}`` is a template that is only used if the placeholder NAME has a value.
    """

    def __init__(self, value: Any) -> None:
        is_conditional = isinstance(value, dict) and value.keys() == {IF, VALUE}
        self.condition: str | None = value[IF] if is_conditional else None
        self._content = content = value[VALUE] if is_conditional else value
        self.names: Sequence[str] = PLACEHOLDER.findall(content) if isinstance(content, str) else []
        """The names of its placeholders."""
        is_single = not is_conditional and bool(self.names) and content == f"{{{self.names[0]}}}"
        self.is_null = content is None
        """Whether it is the constant null, which never renders to a value."""
        self.single_name = self.names[0] if is_single else None
        """The name of its placeholder if the template is a single one, without a condition."""
        self.needed = {*self.names, *([self.condition] if self.condition else [])}
        """The names of the placeholders that decide about its value."""
        self._format = _to_format(content) if isinstance(content, str) else ""

    def render(self, values: Mapping[str, Any]) -> Any:
        """The rendered value; None if a placeholder has no value, or the condition none."""
        if self.single_name:
            return values.get(self.single_name)
        if self.condition and values.get(self.condition) is None:
            return None
        if not self.names:
            return self._content
        for name in self.names:
            if values.get(name) is None:
                return None
        return self._format.format_map(values)


def _to_format(text: str) -> str:
    """The text as a format string of Python. Braces outside of placeholders are escaped."""
    parts = PLACEHOLDER.split(text)  # every second one is a name
    parts[::2] = [part.replace("{", "{{").replace("}", "}}") for part in parts[::2]]
    parts[1::2] = [f"{{{name}}}" for name in parts[1::2]]
    return "".join(parts)


STEADY = frozenset(
    "version user_agent originator os arch terminal sandbox beta_features client_id account_id content_encoding lite "
    "model turn_model service_tier request_kind node_repl_auto_review_required node_repl_disabled".split()
)
"""Placeholders that have the same values, texts or flags, in most requests, and none of which is secret."""
MAX_STEADY = 200
"""Combinations of their values that are cached: clients may send any names of models and versions."""


class Fields:
    """Fields in order. A field has the value of its first template that renders to one; otherwise it is omitted."""

    def __init__(self, rows: Iterable[Sequence[Any]]) -> None:
        """:param rows: for each field its name and its templates; without any, the row only marks a position."""
        self.templates = [(name, [Template(value) for value in alternatives]) for name, *alternatives in rows]
        self.names = [name for name, _ in self.templates]
        self.varying = frozenset(
            name for name, alternatives in self.templates if any(template.names for template in alternatives)
        )
        """The names of fields whose value may differ between requests."""
        used = {name: {key for one in alternatives for key in one.needed} for name, alternatives in self.templates}
        self._steady_names = sorted(STEADY.intersection(*[set().union(*used.values())]))
        changing = [(name, alternatives) for name, alternatives in self.templates if not used[name] <= STEADY]
        self._single = [(name, key) for name, alternatives in changing if (key := _single_name(alternatives))]
        """Fields that have the value of one placeholder, which differs between requests."""
        self._composed = [(name, alternatives) for name, alternatives in changing if not _single_name(alternatives)]
        """Other fields that differ between requests."""
        self._rendered: dict[tuple[Any, ...], dict[str, Any]] = {}
        """The fields by the values of the steady placeholders; those that differ between requests are None."""

    def render(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that have a value for these placeholders."""
        steady_values = tuple(map(values.get, self._steady_names))
        fields = dict(self._rendered.get(steady_values) or self._render_steady(steady_values))
        for name, key in self._single:
            if (value := values.get(key)) is None:
                del fields[name]
            else:
                fields[name] = value
        for name, alternatives in self._composed:
            if (value := _first_value(alternatives, values)) is None:
                del fields[name]
            else:
                fields[name] = value
        return fields

    def _render_steady(self, steady_values: tuple[Any, ...]) -> dict[str, Any]:
        """Render the fields that only depend on steady placeholders, and keep them."""
        values = dict(zip(self._steady_names, steady_values, strict=True))
        changing = {name for name, _ in (*self._single, *self._composed)}
        rendered = {
            name: None if name in changing else _first_value(alternatives, values)
            for name, alternatives in self.templates
        }
        fields = {name: value for name, value in rendered.items() if value is not None or name in changing}
        if len(self._rendered) >= MAX_STEADY:
            self._rendered.clear()
        self._rendered[steady_values] = fields
        return fields


def _single_name(alternatives: Sequence[Template]) -> str | None:
    return alternatives[0].single_name if len(alternatives) == 1 else None


def _first_value(alternatives: Sequence[Template], values: Mapping[str, Any]) -> Any:
    for template in alternatives:
        if (value := template.render(values)) is not None:
            return value
    return None


def order_fields(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The fields with ``names`` first, in this order."""
    ordered = {name: fields[name] for name in names if name in fields}
    return ordered if len(ordered) == len(fields) else {**ordered, **fields}


SEEDS = 100
"""How many random orders there are, so that most of them are known already."""
MAX_KNOWN_NAMES = 20
"""Fields whose random orders are kept; more of them are a client's own."""


def in_random_order(fields: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The fields in an order that only depends on the seed and their names, as that of the CLI's hash maps."""
    find_order = _find_known_order if len(fields) <= MAX_KNOWN_NAMES else _find_random_order
    return {name: fields[name] for name in find_order(tuple(fields), seed % SEEDS)}


def _find_random_order(names: tuple[str, ...], seed: int) -> list[str]:
    order = sorted(names)
    random.Random(_SALT + seed).shuffle(order)
    return order


_SALT = random.getrandbits(64)
"""Lets each process have other orders."""


_find_known_order = functools.lru_cache(maxsize=2048)(_find_random_order)
