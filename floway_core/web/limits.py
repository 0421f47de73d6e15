"""Admitting a request within the limits of its API key, and reporting these limits to the client."""

import logging
from collections.abc import Iterator, Mapping

import peewee
from flask import Response, after_this_request

from floway_core.contexts import NO_LIMITS, ApiKey
from floway_core.engine.relay import Relay
from floway_core.protocol.usage import Tokens, usage_of
from floway_core.runtime.gateway import Gateway
from floway_core.storage import limits
from floway_core.storage.db import DATABASE_ERRORS
from floway_core.web.auth import unknown_key
from floway_core.web.request_log import RequestLogEntry

log = logging.getLogger("floway.limits")

HEADER_PREFIX = "x-ratelimit-"


class AdmittedRequest:
    """A request that counts against the limits of its key until ``end`` is called."""

    def __init__(self, gateway: Gateway, key: ApiKey, request_id: str) -> None:
        self._gateway = gateway
        self._key = key
        self.request_id = request_id
        self._ended = False

    def end(self, tokens: Tokens) -> None:
        """Release the request's share of the limits. A second call does nothing.

        :param tokens: tokens that the request has used.
        """
        if self._ended:
            return
        self._gateway.leases.release(self.request_id)
        limits.release(self._gateway.services.database, self._key, self.request_id, tokens.input + tokens.output)
        self._ended = True


class ReleaseBeforeTerminal:
    """A relay that ends its request before it yields the terminal event, after which the client may send the next."""

    def __init__(self, relay: Relay, admission: AdmittedRequest) -> None:
        self._relay = relay
        self._admission = admission

    def __iter__(self) -> Iterator[bytes | None]:
        events = self._relay.events
        for chunk in self._relay:
            if chunk and events.terminal:
                try:
                    self._admission.end(usage_of(events.response))
                except DATABASE_ERRORS as error:  # retried when the request is closed
                    log.warning("Request %s could not be counted yet: %s", self._admission.request_id, error)
            yield chunk

    def close(self) -> None:
        self._relay.close()


def admit(gateway: Gateway, key: ApiKey, entry: RequestLogEntry) -> AdmittedRequest | None:
    """Count the current request against the limits of ``key``. Return None if the key has no limits.

    :raises GatewayError: 429 ``rate_limit_exceeded``; 401, the key was deleted meanwhile.
    """
    if key.limits == NO_LIMITS:
        return None
    try:
        headers = limits.admit(gateway.services.database, key, entry.id)
    except peewee.IntegrityError:  # the key was deleted between two queries
        raise unknown_key() from None
    if key.limits.concurrent_requests:
        gateway.leases.acquire(entry.id)
    admission = AdmittedRequest(gateway, key, entry.id)
    entry.on_close.append(lambda entry: admission.end(entry.tokens))
    after_this_request(lambda response: _replace_limit_headers(response, headers))
    return admission


def _replace_limit_headers(response: Response, headers: Mapping[str, str]) -> Response:
    """Replace the upstream's limits by those of the key: both together would contradict each other."""
    if headers:
        for name in {name for name in response.headers.keys() if name.lower().startswith(HEADER_PREFIX)}:
            del response.headers[name]
        response.headers.extend(headers)
    return response
