"""The hooks of the plugin. Each of them delegates to another module."""

from collections.abc import Iterable

from floway_chat.dialect import ChatDialect
from floway_chat.settings import RESTORE_REASONING, SETTINGS
from floway_core.contexts import Services
from floway_core.dialect import Dialect
from floway_core.hookspecs import hookimpl
from floway_core.settings import Setting


@hookimpl
def register_settings() -> Iterable[Setting]:
    return SETTINGS


@hookimpl
def register_dialects(services: Services) -> Iterable[Dialect]:
    return [ChatDialect(services.settings.plugin[RESTORE_REASONING])]
