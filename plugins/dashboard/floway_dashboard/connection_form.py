"""The fields that a provider declares for its upstreams, as fields of a form, and how their input is parsed."""

from dataclasses import dataclass
from typing import Any

from floway_core.administration import forms
from floway_core.administration.forms import FormField
from floway_core.administration.upstreams import UpstreamState
from floway_core.provider import Provider
from floway_dashboard.forms import Form

NO_KEY, NO_HEADERS = "no_key", "no_headers"
"""Checkboxes that remove a value that is never shown."""


@dataclass(frozen=True)
class ShownField:
    """A field with its present value."""

    field: FormField
    value: str | bool
    remover: str = ""
    """The name of the checkbox that removes the value; empty for none."""


def list_new_fields(provider: Provider) -> list[ShownField]:
    """Return the fields for a new upstream of a provider."""
    return [ShownField(field, field.default) for field in _form(provider)]


def list_fields(provider: Provider | None, state: UpstreamState) -> list[ShownField]:
    """Return the fields for an upstream; none if its connection cannot be read."""
    connection = state.connection
    if connection is None:
        return []
    values: dict[str, str | bool] = {
        "base_url": connection.base_url,
        "allow_http": connection.base_url.startswith("http:"),
        "models": "\n".join(connection.models),
        **{f"{forms.OPTION_PREFIX}{name}": value for name, value in connection.options.items()},
    }
    removers = {"headers": NO_HEADERS if connection.headers else "", "api_key": ""}
    fields = []
    for field in _form(provider):
        remover = removers.get(field.name, "")
        if field.name == "api_key" and connection.has_key and not field.required:
            remover = NO_KEY
        fields.append(ShownField(field, values.get(field.name, field.default), remover))
    return fields


def read_new_fields(provider: Provider, form: Form) -> dict[str, Any]:
    """Return the input for a new upstream, as fields of the admin API."""
    return forms.parse_form(_form(provider), form.values)


def read_changed_fields(provider: Provider | None, form: Form) -> dict[str, Any]:
    """Return the input for an existing upstream, as fields of the admin API. Empty secrets stay unchanged."""
    declared = _form(provider)
    if not declared or "base_url" not in form.values:
        return {}
    fields = {"base_url": "", "models": [], **forms.parse_form(declared, form.values)}
    if form.is_set(NO_KEY):
        fields["api_key"] = ""
    if form.is_set(NO_HEADERS):
        fields["headers"] = {}
    return fields


def _form(provider: Provider | None) -> tuple[FormField, ...]:
    declared = provider.connection_options if provider else None
    return forms.connection_form(declared) if declared else ()
