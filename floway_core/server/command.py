"""``floway serve``: gunicorn with settings for long streams."""

import logging
import math
import os
import resource
import shutil
import signal
import socket
import tempfile
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
from gunicorn.workers.base import Worker
from prometheus_client.multiprocess import mark_process_dead

from floway_core.errors import StartupError
from floway_core.runtime.gateway import open_gateway, read_settings
from floway_core.runtime.plugins import build_plugin_manager
from floway_core.settings import Settings

log = logging.getLogger("floway")

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus_client learns of it."""

OWN_FOLDER = "floway-metrics-"

KEEPALIVE = 10
"""Seconds that an idle client connection is kept: longer than HTTP clients keep theirs, as a rule."""

SPARE_THREADS = 64
"""Threads beyond those for requests that are served: they refuse the others, and answer for the health of this one."""

IDLE_CONNECTIONS = 1024
"""Connections of one worker beyond its threads: those without a request at the moment."""

PAUSE = 1.0
"""Seconds before a worker is replaced that could not start."""

OTHER_FILES = 128
"""Descriptors of one worker beside its connections: database, pools, log, libraries."""


def options(settings: Settings) -> dict[str, Any]:
    """gunicorn's settings, by its own names."""
    return {
        "bind": settings.bind,
        "workers": settings.workers,
        # A thread for each request until its stream has begun, and again at its end: see ``server.stream_loop``.
        "worker_class": "floway_core.server.worker.Worker",
        "threads": settings.threads + SPARE_THREADS,
        "worker_connections": settings.threads + SPARE_THREADS + IDLE_CONNECTIONS,
        "keepalive": KEEPALIVE,
        # With threads this only watches the worker's main loop; it does not end long streams.
        "timeout": 60,
        "graceful_timeout": math.ceil(settings.graceful_timeout),
        "limit_request_fields": settings.max_headers,
        "limit_request_field_size": settings.max_header_bytes,
        "limit_request_line": 8190,
        "loglevel": "warning" if settings.log_level == "info" else settings.log_level,
        "logger_class": ServerLog,
        "child_exit": child_exit,
        "proc_name": "floway",
        # Several Floways of one user would share its default path.
        "control_socket_disable": True,
        "forwarded_allow_ips": "",
    }


class ServerLog(Logger):
    """gunicorn's own messages, in the same lines as all others."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def share_metrics() -> None:
    """Make the folder through which the metrics of the workers are added up.

    ``gunicorn floway_core.wsgi:app`` shares one, too, if the environment names it and its configuration has
    ``child_exit``.

    :raises StartupError: there is no place for it.
    """
    try:
        os.environ[METRICS_FOLDER] = tempfile.mkdtemp(prefix=OWN_FOLDER)
    except OSError as error:
        message = f"A folder for metrics cannot be made: {error.strerror}. FLOWAY_METRICS=off needs none."
        raise StartupError(message) from error


def child_exit(server: Arbiter, worker: Worker) -> None:
    """A hook for gunicorn's configuration: a worker has ended, so its gauges count no more. Its counters do."""
    if folder := os.environ.get(METRICS_FOLDER):
        mark_process_dead(worker.pid, folder)


def _remove_metrics() -> None:
    folder = os.environ.get(METRICS_FOLDER, "")
    if os.path.basename(folder).startswith(OWN_FOLDER):  # one that the operator has named is theirs
        shutil.rmtree(folder, ignore_errors=True)


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


def files_needed(settings: Settings) -> int:
    """The descriptors that a worker may need at most."""
    return 2 * (settings.threads + SPARE_THREADS) + IDLE_CONNECTIONS + OTHER_FILES


def allow_files(settings: Settings) -> None:
    """Let this process and its workers open as many files as they may need: two for each request. The usual limit is
    lower, and a worker that meets it can accept nobody."""
    needed = files_needed(settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    if most < needed:
        log.warning("Each worker may need %d open files, and the system allows %d (ulimit -n)", needed, most)


class _Arbiter(Arbiter):
    """gunicorn's, but an order to stop reaches every worker, and ends a reload that waits for the old ones."""

    _reloads = _stops = False

    def signal(self, sig: int, frame: FrameType | None) -> None:
        self._stops = self._stops or sig in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
        super().signal(sig, frame)

    def reload(self) -> None:
        try:
            _check_start()
        except StartupError as error:
            log.error("The workers are not replaced, because new ones could not start: %s", error)
            return
        log.info("Replacing the workers")
        self._reloads = True
        super().reload()
        self._reloads = False

    def reap_workers(self) -> None:
        super().reap_workers()
        if self._stops and self._reloads:
            self._reloads = False
            raise StopIteration  # as the handler of the signal does
        if self._stops:
            self.kill_workers(signal.SIGTERM)  # once more: a worker that has only just begun may have missed it


class Server(BaseApplication):
    """gunicorn's arbiter around the application that ``floway_core.wsgi`` makes, built anew in every worker."""

    def __init__(self, settings: Settings, begin: Callable[[Sequence[str]], None], end: Callable[[], None]) -> None:
        """:param begin: called with the URLs, or ``unix:PATH``, as soon as clients can connect.
        :param end: called when nothing of the server runs any more.
        """
        self._settings, self._begin, self._end = settings, begin, end
        super().__init__()

    def load_config(self) -> None:
        for name, value in options(self._settings).items():
            self.cfg.set(name, value)
        self.cfg.set("when_ready", lambda server: self._begin([str(listener) for listener in server.LISTENERS]))
        self.cfg.set("on_exit", lambda server: self._exit())

    def _exit(self) -> None:
        _remove_metrics()
        self._end()

    def run(self) -> None:
        _Arbiter(self).run()

    def load(self) -> Flask:
        try:
            from floway_core.wsgi import app  # imported in the worker: connections must not be shared by a fork
        except (Exception, SystemExit) as error:
            # It could start when the server did. Its status would have gunicorn give up, and the others with it.
            log.error("A worker could not start; another one tries in %g seconds", PAUSE, exc_info=_fault(error))
            time.sleep(PAUSE)
            raise SystemExit(1) from None
        return app


def _check_start() -> None:
    """:raises StartupError: a worker could not start now."""
    manager = build_plugin_manager()
    open_gateway(read_settings(manager), manager).services.database.close_all()


def _fault(error: BaseException) -> BaseException | None:
    """What is to be told with its traceback; of others a line has been printed."""
    return None if isinstance(error, SystemExit) else error
