"""The form for an upstream of a provider, as data: for commands and pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from floway_core.provider import ConnectionOptions, UpstreamOption

TEXT, FLAG, CHOICE, LINES, HEADERS = "text", "flag", "choice", "lines", "headers"
"""Kinds of fields: one line of text, yes or no, one of ``choices``, names on lines of their own, and lines of the form
``name: value``."""

OPTION_PREFIX = "options."
"""Before the names of the options that a provider declares."""


@dataclass(frozen=True)
class FormField:
    """One field of a form."""

    name: str
    """That of the admin API: of ``CONNECTION_FIELDS``, or ``options.NAME``. Errors have it as their ``param``."""
    label: str
    kind: str = TEXT
    required: bool = False
    secret: bool = False
    """Whether the value is never shown again."""
    default: str | bool = ""
    help: str = ""
    choices: tuple[str, ...] = ()


def connection_form(declared: ConnectionOptions) -> tuple[FormField, ...]:
    """Return the fields of the connection of an upstream, without its name and prefix."""
    return (
        FormField(
            "base_url",
            "Base URL",
            required=declared.default_base_url is None,
            default=declared.default_base_url or "",
            help=f"With its path: {declared.default_base_url or declared.example_base_url}",
        ),
        FormField(
            "allow_http",
            "Allow http",
            FLAG,
            default=False,
            help="Accept an http URL in a private network: nothing is encrypted.",
        ),
        FormField(
            "api_key",
            "API key",
            required=not declared.key_is_optional,
            secret=True,
            help="It is stored encrypted, and not shown again.",
        ),
        FormField("headers", "Headers", HEADERS, secret=True, help="'name: value' for every request."),
        FormField("models", "Models", LINES, help="Serve these models, and do not request a list."),
        *map(_option_field, declared.options),
    )


def _option_field(option: UpstreamOption) -> FormField:
    return FormField(
        f"{OPTION_PREFIX}{option.name}",
        option.name.replace("_", " ").capitalize(),
        CHOICE if option.choices else FLAG,
        default=option.default,
        help=option.help,
        choices=option.choices,
    )


def parse_form(form: tuple[FormField, ...], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of a form as fields of the admin API, for ``upstreams.add`` and ``change``, which check them.

    :param texts: the entered texts, by name of the field. A flag is set if it is present; empty texts are ignored.
    """
    fields: dict[str, Any] = {}
    for field in form:
        text = texts.get(field.name, "").strip()
        value: Any = text
        if field.kind == FLAG:
            value = field.name in texts
        elif field.kind == LINES:
            value = [line.strip() for line in text.splitlines() if line.strip()]
        elif field.kind == HEADERS:
            lines = [line.partition(":") for line in text.splitlines() if line.strip()]
            value = {name.strip(): content.strip() for name, _, content in lines}
        if not text and field.kind != FLAG:
            continue
        if field.name.startswith(OPTION_PREFIX):
            fields.setdefault("options", {})[field.name.removeprefix(OPTION_PREFIX)] = value
        else:
            fields[field.name] = value
    return fields
