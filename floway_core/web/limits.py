"""Admit requests within the limits of their API key, and report these limits to the client."""

import logging
from collections.abc import Mapping

import peewee
from flask import Response, after_this_request

from floway_core.contexts import NO_LIMITS, ApiKey
from floway_core.engine.client_stream import ClientStream
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
        """Release the request's share of the limits. Further calls do nothing.

        :param tokens: tokens that the request has used.
        """
        if self._ended:
            return
        self._gateway.leases.release(self.request_id)
        limits.release(self._gateway.services.database, self._key, self.request_id, tokens.input + tokens.output)
        self._ended = True


def release_before_terminal(stream: ClientStream, admission: AdmittedRequest) -> None:
    """End ``admission`` before the terminal event of ``stream``, after which the client may send its next request."""

    def release() -> None:
        try:
            admission.end(usage_of(stream.answer.response))
        except DATABASE_ERRORS as error:  # retried when the request is closed
            log.warning("Request %s could not be counted yet: %s", admission.request_id, error)

    stream.subscribe(before_terminal=release)


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
    """Replace the upstream's limits by those of the key, which they would contradict."""
    if headers:
        header_names = response.headers.keys()  # iterating over the object yields pairs
        for name in {name for name in header_names if name.lower().startswith(HEADER_PREFIX)}:
            del response.headers[name]
        response.headers.extend(headers)
    return response
