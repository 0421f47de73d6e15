"""Letting a request in as far as the limits of its API key allow, and telling the client how far that is."""

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

PREFIX = "x-ratelimit-"


class AdmittedRequest:
    """A request that was let in, from then until it has ended."""

    def __init__(self, gateway: Gateway, key: ApiKey, request_id: str) -> None:
        self._gateway = gateway
        self._key = key
        self.request_id = request_id
        self._ended = False

    def end(self, tokens: Tokens) -> None:
        """The request uses nothing any more. Ending twice changes nothing.

        :param tokens: what it has used.
        """
        if self._ended:
            return
        self._gateway.leases.release(self.request_id)
        limits.release(self._gateway.services.database, self._key, self.request_id, tokens.input + tokens.output)
        self._ended = True


class ReleaseBeforeTerminal:
    """A relay whose request ends before its client learns that it has, and sends the next one."""

    def __init__(self, relay: Relay, admission: AdmittedRequest) -> None:
        self._relay = relay
        self._stay = admission

    def __iter__(self) -> Iterator[bytes | None]:
        events = self._relay.events
        for piece in self._relay:
            if piece and events.terminal:
                try:
                    self._stay.end(usage_of(events.response))
                except DATABASE_ERRORS as error:
                    log.warning("Request %s could not be counted, and will be later: %s", self._stay.request_id, error)
            yield piece

    def close(self) -> None:
        self._relay.close()


def admit(gateway: Gateway, key: ApiKey, entry: RequestLogEntry) -> AdmittedRequest | None:
    """Count the running request against the limits of ``key``; None if it has none.

    :raises GatewayError: 429 ``rate_limit_exceeded``; 401, there is no such key any more.
    """
    if key.limits == NO_LIMITS:
        return None
    try:
        told = limits.admit(gateway.services.database, key, entry.id)
    except peewee.IntegrityError:  # it was deleted between two queries
        raise unknown_key() from None
    if key.limits.concurrent_requests:
        gateway.leases.acquire(entry.id)
    admission = AdmittedRequest(gateway, key, entry.id)
    entry.on_close.append(lambda entry: admission.end(entry.tokens))
    after_this_request(lambda response: _tell(response, told))
    return admission


def _tell(response: Response, told: Mapping[str, str]) -> Response:
    """Put the limits of the key in the place of the upstream's: two sets would contradict each other."""
    if told:
        for name in {name for name in response.headers.keys() if name.lower().startswith(PREFIX)}:
            del response.headers[name]
        response.headers.extend(told)
    return response
