"""How many requests are served at the same time: what is more is refused at once, instead of waiting unanswered."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from floway_core.errors import GatewayError

OVERLOADED = "floway.refused"
"""The name in the WSGI environment of what says that there is no place for a request."""

ALWAYS_SERVED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that matter most when there is too much to do."""


class ConcurrencyLimit:
    """A WSGI application for so many requests at a time. It is called for the others, too, to refuse them."""

    def __init__(self, app: Callable, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._running = 0
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        if environ["PATH_INFO"] in ALWAYS_SERVED:
            return self._app(environ, start_response)
        if not self._enter():
            environ[OVERLOADED] = True
            return self._app(environ, start_response)
        answer = None
        try:
            answer = _CountedBody(self._app(environ, start_response), self._leave)
            return answer
        finally:
            if answer is None:
                self._leave()

    def _enter(self) -> bool:
        with self._lock:
            free = self._running < self._limit
            self._running += free
        return free

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1


class _CountedBody:
    """What an application answers. ``closed`` is called at its end."""

    def __init__(self, pieces: Iterable[bytes], closed: Callable[[], None]) -> None:
        self._pieces = pieces
        self._closed = closed

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        try:
            if hasattr(self._pieces, "close"):
                self._pieces.close()
        finally:
            self._closed()


def refuse_if_overloaded(environ: Mapping[str, Any]) -> None:
    """Refuse a request for which there is no place.

    :raises GatewayError: 503 ``server_overloaded``.
    """
    if environ.get(OVERLOADED):
        message = "The gateway serves as many requests as it can at the moment. Try again soon."
        raise GatewayError(503, message, code="server_overloaded", headers={"retry-after": "1"})
