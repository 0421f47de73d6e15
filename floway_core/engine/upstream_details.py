"""Describe an upstream for the operator: its connection and its problem, without secrets."""

from typing import Any

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.runtime.gateway import Gateway
from floway_core.storage import connections


def describe_upstream(gateway: Gateway, upstream: Upstream) -> dict[str, Any]:
    """Describe an upstream for the command line and the admin API.

    :returns: ``name``, ``kind``, ``enabled``, ``prefix``, ``problem`` (None if nothing is known to be wrong), and what
        ``describe_connection`` returns.
    """
    return {
        "name": upstream.name,
        "kind": upstream.kind,
        "enabled": upstream.enabled,
        "prefix": upstream.prefix,
        "problem": gateway.unavailable_reason(upstream),
        **describe_connection(gateway, upstream),
    }


def describe_connection(gateway: Gateway, upstream: Upstream) -> dict[str, Any]:
    """Describe the connection of an upstream, without the key and the values of headers.

    :returns: ``base_url``, ``has_key``, ``headers`` (their names), ``models`` and ``options``; empty if the provider
        stores connections itself, or this one cannot be read.
    """
    provider = gateway.providers.by_kind.get(upstream.kind)
    if provider is None or provider.connection_options is None:
        return {}
    try:
        connection = connections.read(gateway.services, upstream)
    except GatewayError:  # ``problem`` contains the reason
        return {}
    return {
        "base_url": connection.base_url,
        "has_key": connection.api_key is not None,
        "headers": sorted(connection.headers),
        "models": list(connection.models),
        "options": dict(connection.options),
    }
