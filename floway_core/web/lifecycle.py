"""What core does before and after each request: find its dialect, write its log line."""

from collections.abc import Callable, Iterable
from typing import cast

from flask import Flask, Response

from floway_core.runtime.gateway import Gateway
from floway_core.web import current_request, websocket
from floway_core.web.metrics import Metrics
from floway_core.web.observers import trace_headers
from floway_core.web.request_log import RequestLogEntry, watch_stream
from floway_core.web.routing import RouteTable
from floway_core.web.slots import acquire_slot


class RequestLifecycle:
    """Sets the attributes of each ``GatewayRequest``, and ends its log entry."""

    def __init__(
        self,
        gateway: Gateway,
        table: RouteTable,
        metrics: Metrics | None,
        on_close: Iterable[Callable[[RequestLogEntry], None]],
    ) -> None:
        """:param on_close: called for each request, when its last byte has been sent."""
        self._gateway = gateway
        self._table = table
        self._metrics = metrics
        self._on_close = tuple(on_close)

    def register(self, app: Flask) -> None:
        """Have ``app`` call this before and after each request."""
        app.before_request(self._begin)
        app.after_request(self._end)

    def _begin(self) -> None:
        request = current_request()
        rule, environ = request.url_rule, request.environ
        request.gateway = self._gateway
        entry = request.log_entry = RequestLogEntry(
            request.method,
            request.path,
            rule.rule if rule else None,
            trace_headers=trace_headers(environ),
            on_close=list(self._on_close),
            shared_callbacks=len(self._on_close),
            prices=self._gateway.prices,
        )
        if websocket.session_of(environ) is not None:
            entry.transport = "websocket"
        self._table.find_dialect(request)
        entry.dialect = request.dialect.name
        if self._table.is_plugin_view(request.endpoint):  # core's own take it when they have authenticated the client
            acquire_slot(environ)

    def _end(self, response: Response) -> Response:
        request = current_request()
        entry = request.log_entry
        entry.status = response.status_code
        entry.streamed = response.is_streamed
        response.headers["x-request-id"] = entry.id
        if name := request.dialect.request_id_header:
            response.headers[name] = entry.id
        if not entry.streamed:
            entry.end()
            return response
        response.response = watch_stream(cast(Iterable[bytes], response.response), entry)
        if self._metrics is not None:
            self._metrics.begin_stream()
        return response
