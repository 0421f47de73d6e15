"""A kit for testing providers and plugins: a scripted upstream, Responses events, and a gateway that really runs.

It needs the standard library only; ``floway_core.testing.fixtures``, and the tests that every provider has to pass, in
``floway_core.testing.contract``, need pytest, too.
"""

from floway_core.testing.client import ApiClient, ApiResponse
from floway_core.testing.events import event, failed_stream, items_stream, message_item, message_stream
from floway_core.testing.gateway import Installation, RunningGateway
from floway_core.testing.plugin import write_plugin
from floway_core.testing.upstream import FakeUpstream, Recorded, Reply, Step, unreachable_url

__all__ = [
    "ApiClient",
    "ApiResponse",
    "FakeUpstream",
    "Installation",
    "Recorded",
    "Reply",
    "RunningGateway",
    "Step",
    "event",
    "failed_stream",
    "items_stream",
    "message_item",
    "message_stream",
    "unreachable_url",
    "write_plugin",
]
