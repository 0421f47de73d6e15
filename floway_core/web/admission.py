"""Limit the requests that are served at the same time. Further ones are refused at once, and never queued."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from floway_core.engine.client_stream import ClientStream
from floway_core.web.request_log import ClosingBody
from floway_core.web.slots import SLOT, Slot, Slots
from floway_core.web.websocket import WebSocketSession

UNLIMITED_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are also served under overload, when they are needed most."""


class ConcurrencyLimit:
    """WSGI middleware that offers a slot to each request. The application acquires it with ``slots.acquire_slot``.

    It does so once it has authenticated the client: requests without a valid key must not use up the slots.
    """

    def __init__(self, app: WSGIApplication, limit: int) -> None:
        """:param limit: requests at a time."""
        self._app = app
        self._slots = Slots(limit)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Call the application, and release the slot that it has acquired when the response has ended."""
        if environ["PATH_INFO"] in UNLIMITED_PATHS:
            return self._app(environ, start_response)
        slot = environ[SLOT] = Slot(self._slots)
        body = None
        try:
            body = self._app(environ, start_response)
            if isinstance(body, ClientStream):
                body.subscribe(closed=slot.release)
                return body
            if isinstance(body, WebSocketSession):  # each of its messages is a request
                slot.release()
                return body
            return ClosingBody(body, slot.release) if slot.is_acquired else body
        finally:
            if body is None:
                slot.release()
