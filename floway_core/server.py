"""``floway serve``: gunicorn with settings for long streams."""

import math
import socket
from typing import Any

from flask import Flask
from gunicorn import util
from gunicorn.app.base import BaseApplication

from floway_core.config import Settings
from floway_core.errors import StartupError

# Seconds that an idle client connection is kept. Longer than the few seconds after which HTTP clients give theirs up,
# shorter than what would hold up a shutdown.
KEEPALIVE = 10


def options(settings: Settings) -> dict[str, Any]:
    """gunicorn's settings, by its own names."""
    return {
        "bind": settings.bind,
        "workers": settings.workers,
        # A thread for each request: a stream mostly waits, and an idle thread costs next to nothing.
        "worker_class": "floway_core.worker.Worker",
        "threads": settings.threads,
        "worker_connections": 2 * settings.threads + 100,
        "keepalive": KEEPALIVE,
        # With threads this only watches the worker's main loop; it does not end long streams.
        "timeout": 60,
        "graceful_timeout": math.ceil(settings.graceful_timeout),
        # Some clients send JSON metadata of several kilobytes in headers.
        "limit_request_field_size": 32 * 1024,
        "limit_request_line": 8190,
        "loglevel": "warning" if settings.log_level == "info" else settings.log_level,
        "proc_name": "floway",
        # Several Floways of one user would share its default path.
        "control_socket_disable": True,
        "forwarded_allow_ips": "",
    }


def check_bind(bind: str) -> None:
    """Find out in one line, instead of after gunicorn's several tries, that nobody can listen there.

    :raises StartupError: nobody can.
    """
    if bind.startswith("unix:"):
        return
    host, port = util.parse_address(bind)
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise StartupError(f"Floway cannot listen on {bind}: {error.strerror or error}.") from error


class Server(BaseApplication):
    """gunicorn's arbiter around the application that ``floway_core.wsgi`` makes, built anew in every worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in options(self._settings).items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        from floway_core.wsgi import app  # imported in the worker: connections must not be shared by a fork

        return app
