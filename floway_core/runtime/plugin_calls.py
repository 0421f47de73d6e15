"""Call the methods of a plugin: what it raises is logged with the name of its upstream, and affects nothing else."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

from floway_core.contexts import AttemptContext, Upstream
from floway_core.errors import ClientDisconnected, GatewayError
from floway_core.provider import ResponseBody, UpstreamResponse
from floway_core.storage.db import DATABASE_ERRORS

log = logging.getLogger("floway.plugins")

P = ParamSpec("P")
T = TypeVar("T")

NOT_THE_PLUGIN = (GatewayError, ClientDisconnected, *DATABASE_ERRORS)
"""Exceptions that are no fault of the plugin."""

_RESPONSE_FIELDS = (("status", int), ("headers", Sequence), ("body", ResponseBody))
"""The fields of an ``UpstreamResponse`` with their types."""


@contextlib.contextmanager
def log_failures(upstream: Upstream, method: str) -> Iterator[None]:
    """Log what the plugin of an upstream raises in the block, which ends then.

    :param method: what the block calls, for the log.
    :raises GatewayError, ClientDisconnected, *DATABASE_ERRORS: they are no fault of the plugin.
    """
    try:
        yield
    except NOT_THE_PLUGIN:
        raise
    except (Exception, SystemExit):  # a plugin may raise anything
        log.exception("The plugin of upstream %s failed in %s", upstream.name, method)


def call_plugin(context: AttemptContext, method: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function of the plugin that owns the upstream of an attempt.

    :param method: the name of the function, for the log.
    :raises GatewayError: 500, the function raised an exception; or as the function.
    """
    try:
        return function(*args, **kwargs)
    except NOT_THE_PLUGIN:
        raise
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        log.exception("Attempt %s: the plugin of upstream %s failed in %s", context.id, context.upstream.name, method)
        raise plugin_failure() from error


def check_response(response: object) -> UpstreamResponse:
    """Return what a provider has returned as the upstream's response.

    :raises TypeError: it is something else, or has fields of other types.
    """
    if not isinstance(response, UpstreamResponse):
        raise TypeError(f"{type(response).__name__} was returned, which is not an UpstreamResponse")
    for name, kind in _RESPONSE_FIELDS:
        if not isinstance(value := getattr(response, name), kind):
            raise TypeError(f"UpstreamResponse.{name} is {type(value).__name__} instead of {kind.__name__}")
    return response


def plugin_failure() -> GatewayError:
    """Return the error for the client after the plugin of an upstream has failed."""
    return GatewayError(500, "The gateway's plugin for this model has failed.", code="internal_error")
