"""The hooks of the plugin."""

from floway_anthropic.dialect import MessagesDialect
from floway_core.dialect import Dialect
from floway_core.hookspecs import hookimpl


@hookimpl
def register_dialects() -> list[Dialect]:
    return [MessagesDialect()]
