"""The fields of admin requests for the connection of an upstream."""

from collections.abc import Mapping
from typing import Any

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.provider import ConnectionOptions, Provider
from floway_core.runtime.gateway import Gateway
from floway_core.settings import origin_url
from floway_core.storage import connections
from floway_core.storage.connections import Connection

CONNECTION_FIELDS: dict[str, type] = {
    "base_url": str,
    "allow_http": bool,
    "api_key": str,
    "headers": dict,
    "models": list,
    "options": dict,
}
"""The fields and their types. ``allow_http`` accepts http in a private network. The key is never shown."""


def find_provider(gateway: Gateway, kind: str) -> Provider:
    """Return the provider of upstreams of this kind.

    :raises GatewayError: 400, there is none.
    """
    provider = gateway.providers.by_kind.get(kind)
    if provider is None:
        raise _invalid("kind", f"There is no provider {kind[:40]!r}.")
    return provider


def read_connection(declared: ConnectionOptions, fields: Mapping[str, Any]) -> Connection:
    """Return the connection of a new upstream.

    :param declared: the options of its provider.
    :raises GatewayError: 400, with the name of the field.
    """
    changes = _read(declared, {"api_key": "", "base_url": declared.default_base_url or "", **fields})
    defaults = {option.name: option.default for option in declared.options}
    return Connection(**{**changes, "options": {**defaults, **changes.get("options", {})}})


def read_changes(gateway: Gateway, upstream: Upstream, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``Connection`` that change.

    :raises GatewayError: 400, with the name of the field; 503, what is stored cannot be decrypted.
    """
    declared = find_provider(gateway, upstream.kind).connection_options
    if declared is None:
        raise _invalid(next(iter(fields)), f"An upstream of provider {upstream.kind!r} has no such field.")
    changes = _read(declared, fields)
    if "options" in changes:
        changes["options"] = {**connections.read(gateway.services, upstream).options, **changes["options"]}
    return changes


def _read(declared: ConnectionOptions, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Check the present fields, and return them as fields of ``Connection``."""
    changes: dict[str, Any] = {}
    if "base_url" in fields:
        try:
            changes["base_url"] = origin_url(fields["base_url"], fields.get("allow_http", False))
        except ValueError as error:
            raise _invalid("base_url", f"{error} is expected.") from None
    if "api_key" in fields:
        if not fields["api_key"] and not declared.key_is_optional:
            raise _invalid("api_key", "This provider needs a key.")
        if fields["api_key"]:
            connections.check_key(fields["api_key"])
        changes["api_key"] = fields["api_key"] or None
    if "headers" in fields:
        changes["headers"] = _read_headers(fields["headers"])
    if "models" in fields:
        if not all(isinstance(model, str) and model for model in fields["models"]):
            raise _invalid("models", "A list of names is expected.")
        changes["models"] = tuple(fields["models"])
    if "options" in fields:
        changes["options"] = _read_options(declared, fields["options"])
    return changes


def _read_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    try:
        return dict(connections.parse_header(f"{name}: {value}") for name, value in headers.items())
    except ValueError as error:  # the message does not quote the value, which may be secret
        raise _invalid("headers", f"{error}.") from None


def _read_options(declared: ConnectionOptions, values: Mapping[str, Any]) -> dict[str, Any]:
    declared_options = {option.name: option for option in declared.options}
    for name, value in values.items():
        option = declared_options.get(name)
        if option is None:
            raise _invalid(f"options.{name[:40]}", "There is no such option.")
        if value not in option.choices if option.choices else not isinstance(value, bool):
            expected = f"one of {', '.join(option.choices)}" if option.choices else "a boolean"
            raise _invalid(f"options.{name}", f"Expected {expected}.")
    return dict(values)


def _invalid(param: str, message: str) -> GatewayError:
    return GatewayError(400, message, param=param, code="invalid_value")
