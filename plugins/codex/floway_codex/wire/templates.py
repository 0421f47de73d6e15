"""Templates: the parts of a profile whose values may differ between requests."""

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
        self._given = given = value[VALUE] if is_conditional else value
        self.names: Sequence[str] = PLACEHOLDER.findall(given) if isinstance(given, str) else []
        """The names of its placeholders."""
        is_single = not is_conditional and bool(self.names) and given == f"{{{self.names[0]}}}"
        self.is_null = given is None
        """Whether it is the constant null, which never renders to a value."""
        self.single_name = self.names[0] if is_single else None
        """The name of its placeholder if the template is a single one, without a condition."""
        self.is_constant = not (self.names or self.condition)
        self._format = _to_format(given) if isinstance(given, str) else ""

    def render(self, values: Mapping[str, Any]) -> Any:
        """The rendered value; None if a placeholder has no value, or the condition none."""
        if self.single_name:
            return values.get(self.single_name)
        if self.condition and values.get(self.condition) is None:
            return None
        if not self.names:
            return self._given
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
        rows = [_plan_row(name, alternatives) for name, alternatives in self.templates]
        self._keys, self._defaults = [key for key, _ in rows], [default for _, default in rows]
        self._composed = [
            (key, alternatives)
            for key, (name, alternatives) in zip(self._keys, self.templates, strict=True)
            if key == _composed(name)
        ]

    def render(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that have a value for these placeholders."""
        composed = {key: _first_value(alternatives, values) for key, alternatives in self._composed}
        rendered = map({**values, **composed}.get, self._keys, self._defaults)
        return {name: value for name, value in zip(self.names, rendered, strict=True) if value is not None}


def _plan_row(name: str, alternatives: Sequence[Template]) -> tuple[str, Any]:
    """Return the key of the value of a field, and the default without that key.

    A constant is such a default, so that all fields can be rendered at once.
    """
    if len(alternatives) == 1 and alternatives[0].single_name:
        return alternatives[0].single_name, None
    if len(alternatives) == 1 and alternatives[0].is_constant:
        return NO_PLACEHOLDER, alternatives[0].render({})
    return _composed(name) if alternatives else NO_PLACEHOLDER, None


NO_PLACEHOLDER = ""
"""The name of no placeholder."""


def _composed(name: str) -> str:
    """The key of the value of a field that is composed, or chosen among some. No placeholder has this name."""
    return f"field {name}"


def _first_value(alternatives: Sequence[Template], values: Mapping[str, Any]) -> Any:
    for template in alternatives:
        if (value := template.render(values)) is not None:
            return value
    return None


def in_random_order(fields: Mapping[str, Any], seed: object) -> dict[str, Any]:
    """The fields in an order that only depends on the seed and their names, as that of the CLI's hash maps."""
    return dict(sorted(fields.items(), key=lambda field: hash((seed, field[0]))))
