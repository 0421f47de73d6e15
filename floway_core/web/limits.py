"""Admit requests within the limits and budgets of their API key, and report these to the client."""

import logging
from collections.abc import Mapping

import peewee
from flask import Response, after_this_request

from floway_core.contexts import NO_LIMITS, ApiKey
from floway_core.engine.client_stream import ClientStream
from floway_core.engine.costs import charge_of
from floway_core.engine.trace import RequestTrace
from floway_core.protocol.usage import Tokens, usage_of
from floway_core.runtime.gateway import Gateway
from floway_core.storage import budgets, limits
from floway_core.storage.budgets import FREE, Charge
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

    def end(self, tokens: Tokens, trace: RequestTrace) -> None:
        """Release the request's share of the limits, and charge its budgets. Further calls do nothing.

        :param tokens: tokens that the request has used.
        :param trace: how it was served.
        """
        if self._ended:
            return
        self._gateway.leases.release(self.request_id)
        charge, used = self._charge(trace), tokens.input + tokens.output
        limits.release(self._gateway.services.database, self._key, self.request_id, used, charge)
        self._ended = True

    def end_finally(self, entry: RequestLogEntry) -> None:
        """As ``end``, when the request is closed. If the database fails, all this waits in memory."""
        try:
            self.end(entry.tokens, entry.trace)
        except DATABASE_ERRORS as error:
            log.warning("Request %s is counted when the database works again: %s", self.request_id, error)
            self._ended = True
            self._end_later(entry.tokens, self._charge(entry.trace))

    def _end_later(self, tokens: Tokens, charge: Charge) -> None:
        gateway, key = self._gateway, self._key
        if key.limits.concurrent_requests:
            gateway.leases.delete_later(self.request_id)
        if key.limits.tokens_per_day:
            gateway.usage.tokens.add({key.id: tokens.input + tokens.output})
        if charge:
            gateway.usage.spending.add(charge.sums(key.budgets))

    def _charge(self, trace: RequestTrace) -> Charge:
        return charge_of(self._gateway.prices, trace) if self._key.budgets else FREE


def release_before_terminal(stream: ClientStream, admission: AdmittedRequest, trace: RequestTrace) -> None:
    """End ``admission`` before the terminal event of ``stream``, after which the client may send its next request.

    :param trace: how the request was served.
    """

    def release() -> None:
        try:
            admission.end(usage_of(stream.answer.response), trace)
        except DATABASE_ERRORS as error:  # retried when the request is closed
            log.warning("Request %s could not be counted yet: %s", admission.request_id, error)

    stream.subscribe(before_terminal=release)


def admit(gateway: Gateway, key: ApiKey, entry: RequestLogEntry) -> AdmittedRequest | None:
    """Count the current request against limits and budgets of ``key``. Return None if the key has neither.

    :raises GatewayError: 429 ``rate_limit_exceeded`` or ``insufficient_quota``; 401, the key was deleted meanwhile.
    """
    if key.limits == NO_LIMITS and not key.budgets:
        return None
    headers = budgets.check(gateway.services.database, key.budgets)
    if key.limits != NO_LIMITS:
        try:
            headers |= limits.admit(gateway.services.database, key, entry.id)
        except peewee.IntegrityError:  # the key was deleted between two queries
            raise unknown_key() from None
        except DATABASE_ERRORS:
            if key.limits.concurrent_requests:  # the lease may be stored nevertheless
                gateway.leases.delete_later(entry.id)
            raise
    if key.limits.concurrent_requests:
        gateway.leases.acquire(entry.id)
    admission = AdmittedRequest(gateway, key, entry.id)
    entry.on_close.append(admission.end_finally)
    after_this_request(lambda response: _replace_limit_headers(response, headers))
    return admission


def _replace_limit_headers(response: Response, headers: Mapping[str, str]) -> Response:
    """Replace the upstream's limits by those of the key, which they would contradict."""
    if headers:
        header_names = response.headers.keys()  # iterating over the object yields pairs
        for name in {name for name in header_names if name.lower().startswith(HEADER_PREFIX)}:
            del response.headers[name]
        response.headers.extend(headers)
    return response
