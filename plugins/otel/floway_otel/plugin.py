"""The hooks of the plugin: results of requests become spans and metrics."""

import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from floway_core.contexts import AttemptContext, AttemptResult, EndedAttempt, RequestResult, Services
from floway_core.hookspecs import hookimpl
from floway_core.settings import Setting
from floway_otel.settings import SETTINGS

if TYPE_CHECKING:
    from floway_otel.telemetry import Telemetry

log = logging.getLogger("floway.otel")


class Plugin:
    """The plugin: an object, because it keeps what it has opened."""

    def __init__(self) -> None:
        self.telemetry: Telemetry | None = None
        """None until a worker starts, and if no endpoint is configured."""

    @hookimpl
    def register_settings(self) -> Iterable[Setting]:
        return SETTINGS

    @hookimpl
    def on_start(self, services: Services) -> None:
        # Only here: the SDK takes a quarter of a second to load, which no command should wait for.
        try:
            from floway_otel.telemetry import open_telemetry

            self.telemetry = open_telemetry(services.settings.plugin, os.environ)
        except ValueError as error:  # an observer harms nobody: requests are served without it
            log.error("Nothing is exported: %s", error)

    @hookimpl
    def on_attempt_start(self, ctx: AttemptContext) -> None:
        if self.telemetry:
            self.telemetry.begin_attempt(ctx)

    @hookimpl
    def on_attempt_end(self, ctx: EndedAttempt, result: AttemptResult) -> None:
        if self.telemetry:
            self.telemetry.end_attempt(ctx, result)

    @hookimpl
    def on_request_end(self, result: RequestResult) -> None:
        if self.telemetry:
            self.telemetry.end_request(result)

    @hookimpl
    def on_stop(self, timeout: float) -> None:
        if self.telemetry:
            self.telemetry.flush(timeout)


plugin = Plugin()
