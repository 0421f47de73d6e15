"""The values of a submitted form, and its errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flask import request

from floway_core.errors import GatewayError


@dataclass
class Form:
    """Values and errors by the names of fields. The macros of ``dashboard/macros.html`` show both."""

    values: Mapping[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    """Sentences. That of the whole form has the name ``""``."""

    @classmethod
    def sent(cls) -> "Form":
        """Return the form in the current POST, each value without spaces around it."""
        return cls({name: value.strip() for name, value in request.form.items()})

    def text(self, name: str) -> str:
        """Return a value; empty if it was not sent."""
        return self.values.get(name, "")

    def is_set(self, name: str) -> bool:
        """Whether a checkbox is ticked."""
        return bool(self.values.get(name))

    def lines(self, name: str) -> list[str]:
        """Return the values of a field that has one on each line."""
        return [line.strip() for line in self.text(name).splitlines() if line.strip()]

    def number(self, name: str, minimum: int = 1) -> int | None:
        """Return a whole number; None if the field is empty or invalid. Notes an error if it is invalid."""
        text = self.text(name).replace(",", "").replace(" ", "")
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) >= minimum):
            self.errors[name] = f"Enter a whole number from {minimum}, or leave the field empty."
            return None
        return int(text)

    def note(self, error: GatewayError, fields: Mapping[str, str] | None = None) -> None:
        """Note an error of core next to the field at fault.

        :param fields: the name of the form's field for each ``param``, where they differ.
        """
        name = (fields or {}).get(error.param or "", error.param or "")
        self.errors[name if name in self.values else ""] = error.message
