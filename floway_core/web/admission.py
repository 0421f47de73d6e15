"""Limit the requests that are served at the same time. Further ones are refused at once, and never queued."""

from collections.abc import Callable, Iterable, Iterator
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from floway_core.engine.client_stream import ClientStream
from floway_core.web.places import PLACE, Place, Places
from floway_core.web.websocket import WebSocketSession

UNLIMITED_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are also served under overload, when they are needed most."""


class ConcurrencyLimit:
    """WSGI middleware that offers a place to each request. The application takes it with ``places.take_place``.

    It does so when it knows who asks: requests without a valid key must not take the places of clients with keys.
    """

    def __init__(self, app: WSGIApplication, limit: int) -> None:
        """:param limit: requests at a time."""
        self._app = app
        self._places = Places(limit)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Call the application, and free the place that it has taken when its answer has ended."""
        if environ["PATH_INFO"] in UNLIMITED_PATHS:
            return self._app(environ, start_response)
        place = environ[PLACE] = Place(self._places)
        body = None
        try:
            body = self._app(environ, start_response)
            if isinstance(body, ClientStream):
                body.subscribe(closed=place.free)
                return body
            if isinstance(body, WebSocketSession):  # each of its messages is a request
                place.free()
                return body
            return _CountedBody(body, place.free) if place.is_taken else body
        finally:
            if body is None:
                place.free()


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
