"""Limit the requests that are served at the same time. Further ones are refused at once, and never queued."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from floway_core.engine.client_stream import ClientStream
from floway_core.errors import Overloaded
from floway_core.web.websocket import WebSocketSession

OVERLOADED = "floway.overloaded"
"""The key in the WSGI environment of requests that must be refused."""

UNLIMITED_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are also served under overload, when they are needed most."""


class ConcurrencyLimit:
    """WSGI middleware that marks the requests above a limit; the application refuses them."""

    def __init__(self, app: WSGIApplication, limit: int) -> None:
        """:param limit: requests at a time."""
        self._app = app
        self._limit = limit
        self._running = 0
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Call the application, and count the request until its answer has ended."""
        if environ["PATH_INFO"] in UNLIMITED_PATHS:
            return self._app(environ, start_response)
        if not self._try_acquire():
            environ[OVERLOADED] = True
            return self._app(environ, start_response)
        body = None
        try:
            body = self._app(environ, start_response)
            if isinstance(body, ClientStream):
                body.subscribe(closed=self._release)
                return body
            if isinstance(body, WebSocketSession):  # each of its messages is a request
                self._release()
                return body
            return _CountedBody(body, self._release)
        finally:
            if body is None:
                self._release()

    def _try_acquire(self) -> bool:
        with self._lock:
            is_free = self._running < self._limit
            self._running += is_free
        return is_free

    def _release(self) -> None:
        with self._lock:
            self._running -= 1


class _CountedBody:
    """A response body that is not a ``ClientStream``. It calls ``on_close`` when it is closed."""

    def __init__(self, chunks: Iterable[bytes], on_close: Callable[[], None]) -> None:
        self._chunks = chunks
        self._on_close = on_close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)

    def close(self) -> None:
        try:
            if hasattr(self._chunks, "close"):
                self._chunks.close()
        finally:
            self._on_close()


def refuse_if_overloaded(environ: Mapping[str, Any]) -> None:
    """Refuse a request that ``ConcurrencyLimit`` has marked.

    :raises Overloaded: the request is marked.
    """
    if environ.get(OVERLOADED):
        raise Overloaded
