"""The settings of the plugin."""

from floway_core.settings import Setting

RESTORE_REASONING = "chat_restore_reasoning"


def switch(value: str) -> bool:
    """``on`` or ``off``."""
    if value not in ("on", "off"):
        raise ValueError("on or off")
    return value == "on"


SETTINGS = (
    Setting(
        RESTORE_REASONING,
        switch,
        "on",
        "Whether reasoning returns to a history that a chat client sends without it: on or off.",
    ),
)
