"""The request of a client: Flask's, with what core has found out about it."""

import functools

from flask import Request

from floway_core.dialect import Dialect
from floway_core.runtime.dialects import Endpoint
from floway_core.runtime.gateway import Gateway
from floway_core.runtime.memory import Reservation
from floway_core.web.request_log import RequestLogEntry


class GatewayRequest(Request):
    """A request, with attributes that ``web.lifecycle`` sets before a view is called.

    Views and handlers of errors look the request up once and pass it on: every use of Flask's ``request``, ``g`` or
    ``current_app`` looks them up again.
    """

    gateway: Gateway
    log_entry: RequestLogEntry
    dialect: Dialect
    """The dialect of the client, also if no route matches the path."""
    dialect_endpoint: Endpoint | None
    """The route of a dialect; None if the path is not one of a dialect."""

    @functools.cached_property
    def memory(self) -> Reservation:
        """Its share of the gateway's memory for bodies and stored data. It is released when the request has ended."""
        memory = Reservation(self.gateway.body_memory)
        self.log_entry.on_close.append(lambda entry: memory.release())
        return memory
