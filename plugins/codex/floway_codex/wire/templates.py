"""Templates: what stands in a profile for values that differ from request to request."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class Template:
    """A text with ``{placeholders}``, or something else, which stands for itself.

    A template that is one placeholder takes its value as it is, whatever that is.
    """

    def __init__(self, given: Any) -> None:
        self._given = given
        self.names: Sequence[str] = PLACEHOLDER.findall(given) if isinstance(given, str) else []
        """Its placeholders."""
        self.alone = self.names[0] if self.names and given == f"{{{self.names[0]}}}" else None
        """The placeholder that is all of it, if one is."""

    def fill(self, values: Mapping[str, Any]) -> Any:
        """What comes out, or None when a placeholder has no value."""
        if self.alone:
            return values.get(self.alone)
        if not self.names:
            return self._given
        return None if any(values.get(name) is None for name in self.names) else self._given.format_map(values)


class Fields:
    """Fields in order. Each has the value of the first of its templates that comes to anything, or is left out."""

    def __init__(self, rows: Iterable[Sequence[Any]]) -> None:
        """:param rows: the name of a field and its templates."""
        self.templates = [(name, [Template(given) for given in alternatives]) for name, *alternatives in rows]
        self.names = [name for name, _ in self.templates]
        self.varying = frozenset(
            name for name, alternatives in self.templates if any(template.names for template in alternatives)
        )
        """The fields whose value differs from request to request."""

    def render(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that have a value."""
        rendered = {}
        for name, alternatives in self.templates:
            for template in alternatives:
                # Most are one placeholder: the call is saved.
                value = values.get(template.alone) if template.alone else template.fill(values)
                if value is not None:
                    rendered[name] = value
                    break
        return rendered
