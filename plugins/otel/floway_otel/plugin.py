"""The hooks of the plugin. They convert results of requests to spans and metrics."""

import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from floway_core.contexts import AttemptContext, Services
from floway_core.hookspecs import hookimpl
from floway_core.results import AttemptResult, EndedAttempt, RequestResult
from floway_core.settings import Setting
from floway_otel.settings import SETTINGS

if TYPE_CHECKING:
    from floway_otel.telemetry import Telemetry

log = logging.getLogger("floway.otel")


class Plugin:
    """The plugin. It is an object, because it has a state between hooks."""

    def __init__(self) -> None:
        self.telemetry: Telemetry | None = None
        """None until a worker starts, and if no endpoint is configured."""

    @hookimpl
    def register_settings(self) -> Iterable[Setting]:
        return SETTINGS

    @hookimpl
    def on_start(self, services: Services) -> None:
        # Imported here: loading the SDK takes a quarter of a second, and commands do not need it.
        try:
            from floway_otel.telemetry import open_telemetry

            self.telemetry = open_telemetry(services.settings.plugin, os.environ)
        except ValueError as error:  # an observer never stops the gateway from serving requests
            log.error("Traces and metrics are not exported: %s", error)

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
