"""The hooks of the plugin. Each of them only delegates."""

from collections.abc import Iterable
from pathlib import Path

import click
from flask import Blueprint

from floway_core.contexts import AttemptContext, Services
from floway_core.hookspecs import hookimpl
from floway_core.results import AttemptResult, EndedAttempt, RequestResult
from floway_core.settings import Setting
from floway_core.storage.migrate import MigrationSource
from floway_dashboard.recording.recorder import Recorder
from floway_dashboard.settings import SETTINGS


class Plugin:
    """The plugin: an object, because it keeps what it has opened."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None
        """None until a worker starts."""

    @hookimpl
    def register_settings(self) -> Iterable[Setting]:
        return SETTINGS

    @hookimpl
    def register_migrations(self) -> MigrationSource:
        return MigrationSource("dashboard", Path(__file__).parent / "migrations")

    @hookimpl
    def register_commands(self, cli: click.Group) -> None:
        from floway_dashboard.commands import dashboard  # only the command line needs it

        cli.add_command(dashboard)

    @hookimpl
    def register_routes(self, services: Services) -> Iterable[Blueprint]:
        from floway_dashboard.blueprint import build_blueprint  # commands need no pages

        return [build_blueprint(services)]

    @hookimpl
    def on_start(self, services: Services) -> None:
        self.recorder = Recorder(services)
        self.recorder.start()

    @hookimpl
    def on_attempt_start(self, ctx: AttemptContext) -> None:
        if self.recorder:
            self.recorder.begin(ctx)

    @hookimpl
    def on_attempt_end(self, ctx: EndedAttempt, result: AttemptResult) -> None:
        if self.recorder:
            self.recorder.end_attempt(ctx, result)

    @hookimpl
    def on_request_end(self, result: RequestResult) -> None:
        if self.recorder:
            self.recorder.end(result)

    @hookimpl
    def on_stop(self) -> None:
        if self.recorder:
            self.recorder.flush()


plugin = Plugin()
