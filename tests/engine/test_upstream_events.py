"""One read of an upstream's body returns everything that has arrived."""

import json

import pytest

from floway_core.engine.upstream_body import UpstreamEvents
from floway_core.provider import ResponseBody, UpstreamResponse
from floway_core.runtime.settings_loader import load_settings
from floway_core.testing import message_stream
from floway_core.testing.events import response

DOCUMENT = json.dumps({**response(), "status": "completed", "output": []}).encode()
STREAM = b"".join(message_stream())


class ArrivedBody(ResponseBody):
    """A body that has arrived, its end too, and that each call returns a few bytes of."""

    def __init__(self, content):
        self._content = content

    def read(self, timeout, client=None):
        piece, self._content = self._content[:7], self._content[7:]
        return piece

    def close(self):
        pass


@pytest.mark.parametrize(("content", "calls"), [(DOCUMENT, 1), (STREAM, STREAM.count(b"\n\n") + 1)])
def test_no_call_leaves_what_has_arrived(content, calls):
    """The descriptor tells of new bytes only; what is left would wait for the next tick."""
    body = UpstreamResponse(200, [("content-type", "text/event-stream")], ArrivedBody(content))
    source = UpstreamEvents(load_settings({}), body, "one", client=None)
    received = [source.read(0.0) for _ in range(calls)]
    assert source.has_ended and all(received[:-1]) and b"response.completed" in b"".join(received)
