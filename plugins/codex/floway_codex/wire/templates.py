"""Templates: the parts of a profile whose values may differ between requests."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PLACEHOLDER = re.compile(r"\{([a-z_0-9]+)\}")
IF, VALUE = "if", "value"


class Template:
    """A text with ``{placeholders}``, or a constant of another type.

    A template that is a single placeholder has the value of this placeholder, of any type. ``{"if": NAME, "value":
    TEMPLATE}`` is a template that only counts if the placeholder NAME has a value.
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

    def render(self, values: Mapping[str, Any]) -> Any:
        """The rendered value; None if a placeholder has no value, or the condition none."""
        if self.single_name:
            return values.get(self.single_name)
        if self.condition and values.get(self.condition) is None:
            return None
        if not self.names:
            return self._given
        if any(values.get(name) is None for name in self.names):
            return None
        return PLACEHOLDER.sub(lambda found: str(values[found[1]]), self._given)


class Fields:
    """Fields in order. A field has the value of its first template that renders to one; otherwise it is omitted."""

    def __init__(self, rows: Iterable[Sequence[Any]]) -> None:
        """:param rows: for each field its name and its templates; without any, the row only marks a place."""
        self.templates = [(name, [Template(value) for value in alternatives]) for name, *alternatives in rows]
        self.names = [name for name, _ in self.templates]
        self.varying = frozenset(
            name for name, alternatives in self.templates if any(template.names for template in alternatives)
        )
        """The names of fields whose value may differ between requests."""

    def render(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that have a value for these placeholders."""
        rendered = {}
        for name, alternatives in self.templates:
            for template in alternatives:
                # Most templates are a single placeholder: this saves a call.
                value = values.get(template.single_name) if template.single_name else template.render(values)
                if value is not None:
                    rendered[name] = value
                    break
        return rendered
