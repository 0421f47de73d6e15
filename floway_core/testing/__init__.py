"""Test kit for plugin authors: a scripted upstream, builders of Responses events, and a gateway as a real process.

It needs the standard library only. Two modules also need pytest: ``floway_core.testing.fixtures``, and
``floway_core.testing.contract`` with the tests that every provider has to pass.
"""

from floway_core.testing.client import ApiClient, ApiResponse
from floway_core.testing.events import event, failed_stream, items_stream, message_item, message_stream
from floway_core.testing.gateway import RunningGateway
from floway_core.testing.installation import Installation
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
