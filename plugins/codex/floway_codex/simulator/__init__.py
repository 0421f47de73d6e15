"""A stand-in of the ChatGPT/Codex backend and its token endpoint on loopback, for tests and demonstrations.

It shares no code with the client side of the plugin, so that one cannot hide the other's mistake.
"""

from .recording import RecordedRequest
from .replies import (
    Hang,
    Messages,
    OutputItem,
    Refusal,
    Reply,
    compaction,
    custom_tool_call,
    function_call,
    hang,
    html_403,
    item,
    messages,
    reasoning,
    refusal,
    reply,
    text,
)
from .server import Simulator, serve

__all__ = [
    "Hang",
    "Messages",
    "OutputItem",
    "RecordedRequest",
    "Refusal",
    "Reply",
    "Simulator",
    "compaction",
    "custom_tool_call",
    "function_call",
    "hang",
    "html_403",
    "item",
    "messages",
    "reasoning",
    "refusal",
    "reply",
    "serve",
    "text",
]
