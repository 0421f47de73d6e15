"""Traces of requests, as a collector receives them from a running gateway."""

import pytest

from floway_core.testing import Reply, items_stream, message_stream
from floway_core.testing.events import function_call_item

TRACE, CLIENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CLIENT_SPAN}-01"


def test_spans(gateway, upstream, collector, client):
    upstream.script(Reply(message_stream()))
    import pprint

    answer = client.stream()
    assert answer.status == 200, answer.body
    answer.body
    pprint.pprint(collector.spans_of(answer))
    assert 0
