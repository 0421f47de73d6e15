"""Templates: the parts of a profile whose values may differ between requests."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class Template:
    """A text with ``{placeholders}``, or a constant of another type.

    A template that is a single placeholder has the value of this placeholder, of any type.
    """

    def __init__(self, value: Any) -> None:
        self._given = value
        self.names: Sequence[str] = PLACEHOLDER.findall(value) if isinstance(value, str) else []
        """The names of its placeholders."""
        self.single_name = self.names[0] if self.names and value == f"{{{self.names[0]}}}" else None
        """The name of its placeholder if the template is a single one."""

    def render(self, values: Mapping[str, Any]) -> Any:
        """The rendered value; None if a placeholder has no value."""
        if self.single_name:
            return values.get(self.single_name)
        if not self.names:
            return self._given
        return None if any(values.get(name) is None for name in self.names) else self._given.format_map(values)


class Fields:
    """Fields in order. A field has the value of its first template that renders to one; otherwise it is omitted."""

    def __init__(self, rows: Iterable[Sequence[Any]]) -> None:
        """:param rows: for each field its name and its templates."""
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
