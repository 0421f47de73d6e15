"""``floway serve``: gunicorn with settings for long streams."""

import errno
import logging
import math
import resource
import signal
import socket
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger

from floway_core.errors import StartupError
from floway_core.runtime.gateway import open_gateway, read_settings
from floway_core.runtime.plugins import build_plugin_manager
from floway_core.runtime.resources import IDLE_CONNECTIONS, SPARE_THREADS, files_needed, threads_needed
from floway_core.server.metrics_folder import child_exit, remove_metrics
from floway_core.server.thread_trial import start_trial
from floway_core.settings import Settings
from floway_core.storage.db import close_connections

log = logging.getLogger("floway")

KEEPALIVE_SECONDS = 10
"""Time that an idle client connection stays open: usually longer than HTTP clients keep theirs."""

REQUEST_LINE_BYTES = 8190
"""Limit for the first line of a request; gunicorn's own."""

RESTART_DELAY_SECONDS = 1.0
"""Time before a worker that could not start is replaced."""

BIND_WAIT_SECONDS = 3.0
"""Time to wait for an address that is in use."""

BIND_RETRY_SECONDS = 0.05
"""Time between two tries to bind it."""


def options(settings: Settings) -> dict[str, Any]:
    """Return gunicorn's settings by name."""
    return {
        "bind": settings.bind,
        "workers": settings.workers,
        # A request needs a thread until its stream has begun, and again at the end: see ``server.stream_loop``.
        "worker_class": "floway_core.server.worker.Worker",
        "threads": settings.threads + SPARE_THREADS,
        "worker_connections": settings.threads + SPARE_THREADS + IDLE_CONNECTIONS,
        "keepalive": KEEPALIVE_SECONDS,
        # With threads this only watches the worker's main loop; it does not end long streams.
        "timeout": 60,
        "graceful_timeout": math.ceil(settings.graceful_timeout),
        "limit_request_fields": settings.max_headers,
        "limit_request_field_size": settings.max_header_bytes,
        "limit_request_line": REQUEST_LINE_BYTES,
        "loglevel": "warning" if settings.log_level == "info" else settings.log_level,
        "logger_class": ServerLog,
        "child_exit": child_exit,
        "proc_name": "floway",
        # Several gateways of one user would share its default path.
        "control_socket_disable": True,
        "forwarded_allow_ips": "",
    }


class ServerLog(Logger):  # type: ignore[misc]  # gunicorn has no annotations
    """Writes gunicorn's own messages to the gateway's log."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def check_bind(bind: str, on_wait: Callable[[str], None]) -> None:
    """Check that the server can listen on an address. gunicorn would retry several times, and print a traceback.

    An address in use may become free soon: workers whose server was killed close it within a second. It is not shared
    with them (``SO_REUSEPORT``), because then a second server, started by mistake, would get some of the requests.

    :param bind: ``HOST:PORT`` or ``unix:PATH``, which is not checked.
    :param on_wait: called with a message before it waits.
    :raises StartupError: it cannot.
    """
    if bind.startswith("unix:"):
        return
    deadline, is_waiting = time.monotonic() + BIND_WAIT_SECONDS, False
    while error := _try_bind(bind):
        if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
            raise StartupError(f"Floway cannot listen on {bind}: {error.strerror or error}.") from error
        if not is_waiting:
            is_waiting = True
            on_wait(f"{bind} is in use; waiting {BIND_WAIT_SECONDS:g} seconds for it to become free")
        time.sleep(BIND_RETRY_SECONDS)


def _try_bind(bind: str) -> OSError | None:
    """Return why nothing can listen on an address now."""
    host, port = util.parse_address(bind)
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def allow_files(settings: Settings) -> None:
    """Raise the limit of open files for this process and its workers. A request may need two descriptors.

    The usual limit is lower, and a worker that reaches it cannot accept connections.
    """
    needed = files_needed(settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
    if limit < needed:
        log.warning("Each worker may need %d open files, and the system allows %d (ulimit -n)", needed, limit)


def try_threads(settings: Settings) -> Callable[[], None]:
    """Start to try whether the system allows the threads that the settings promise.

    :returns: waits for the result, and logs a warning if it does not. Requests that get no thread are refused.
    """
    promised = threads_needed(settings)
    finish = start_trial(settings.workers, promised)

    def warn() -> None:
        if (allowed := finish()) < promised:
            message = "Each worker may need %d threads, and the system allows %d (ulimit -u, pids limit, memory)"
            log.warning(message, promised, allowed)

    return warn


class _Arbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's arbiter, with two differences: a signal to stop reaches every worker, and ends a reload that is
    waiting; and a worker that cannot be started is tried again."""

    _is_reloading = _is_stopping = False

    def signal(self, sig: int, frame: FrameType | None) -> None:
        self._is_stopping = self._is_stopping or sig in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
        super().signal(sig, frame)

    def spawn_worker(self) -> int | None:
        try:
            pid: int | None = super().spawn_worker()
        except OSError as error:  # only the fork: a worker itself exits
            log.error("A worker could not start, and will be tried again: %s", error)
            return None
        return pid

    def reload(self) -> None:
        try:
            _check_start()
        except StartupError as error:
            log.error("The workers are not replaced, because new ones could not start: %s", error)
            return
        log.info("Replacing the workers")
        self._is_reloading = True
        super().reload()
        self._is_reloading = False

    def reap_workers(self) -> None:
        super().reap_workers()
        if self._is_stopping and self._is_reloading:
            self._is_reloading = False
            raise StopIteration  # like the handler of the signal
        if self._is_stopping:
            self.kill_workers(signal.SIGTERM)  # again: a worker that was just starting may have missed it


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no annotations
    """Runs gunicorn with the application of ``floway_core.wsgi``, which every worker creates for itself."""

    def __init__(
        self, settings: Settings, on_ready: Callable[[Sequence[str]], None], on_exit: Callable[[], None]
    ) -> None:
        """:param on_ready: called with the URLs, or ``unix:PATH``, as soon as clients can connect.
        :param on_exit: called when no process of the server runs any more.
        """
        self._settings, self._on_ready, self._on_exit = settings, on_ready, on_exit
        super().__init__()

    def load_config(self) -> None:
        for name, value in options(self._settings).items():
            self.cfg.set(name, value)
        self.cfg.set("when_ready", lambda server: self._on_ready([str(listener) for listener in server.LISTENERS]))
        self.cfg.set("on_exit", lambda server: self._exit())

    def _exit(self) -> None:
        remove_metrics()
        self._on_exit()

    def run(self) -> None:
        _Arbiter(self).run()

    def load(self) -> Flask:
        try:
            from floway_core.wsgi import app  # imported in the worker: connections must not be shared by a fork
        except (Exception, SystemExit) as error:
            # The server itself has started with these settings, so try again: this exit status makes gunicorn do so.
            traceback = None if isinstance(error, SystemExit) else error  # before SystemExit a line was printed
            log.error("A worker could not start; retrying in %g seconds", RESTART_DELAY_SECONDS, exc_info=traceback)
            time.sleep(RESTART_DELAY_SECONDS)
            raise SystemExit(1) from None
        application: Flask = app
        return application


def _check_start() -> None:
    """Check that a worker could start with the present settings.

    :raises StartupError: it could not.
    """
    manager = build_plugin_manager()
    close_connections(open_gateway(read_settings(manager), manager).services.database)
