"""The application for ``gunicorn floway_core.wsgi:app``, configured by the environment.

``floway serve`` runs the same application with suitable server settings.
"""

import atexit
import gc

import click
from flask import Flask

from floway_core.conversation.retention import start_sweeping
from floway_core.errors import StartupError
from floway_core.runtime.gateway import Gateway, read_settings
from floway_core.runtime.log import configure_logging
from floway_core.runtime.observers import OBSERVER_FLUSH_SECONDS
from floway_core.runtime.plugins import build_plugin_manager, call_on_start
from floway_core.storage.usage import start_flushing
from floway_core.web.app import create_app

APP_LOAD_ERROR = 4
"""The exit status of a worker that gunicorn should not start again."""


def _create_app() -> Flask:
    try:
        manager = build_plugin_manager()
        settings = read_settings(manager)
        configure_logging(settings.log_level, settings.log_format)
        app = create_app(settings, manager)
        gateway: Gateway = app.extensions["floway"]
        call_on_start(manager, gateway.services)
    except StartupError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(APP_LOAD_ERROR) from None
    # Everything loaded so far is never freed, so the garbage collector can ignore it.
    gc.collect()
    gc.freeze()
    database = gateway.services.database
    try:
        start_sweeping(database, settings.retention_days)
        start_flushing(gateway.usage, database)
    except RuntimeError as error:  # the system allows no further thread
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(APP_LOAD_ERROR) from None
    atexit.register(gateway.usage.flush_finally, database)
    atexit.register(gateway.observers.flush, OBSERVER_FLUSH_SECONDS)
    return app


app = _create_app()
