"""Large events: whatever they hold, and however slowly their client reads, other streams go on."""

import pytest

from floway_core.testing import Reply, event, message_stream
from floway_core.testing.events import DONE

from .raw_client import connect, read_until, request

pytestmark = pytest.mark.soak  # long: many megabytes

FIRST, *_, LAST = message_stream()
SIZE = 20_000_000


def test_large_events_are_whole_for_a_slow_reader(start, fake_upstream):
    """A thread follows each of them, and gives the stream back."""
    gateway = start(threads="1")
    large = event("response.output_text.delta", sequence_number=1, delta="x" * SIZE)
    fake_upstream.script(Reply([FIRST, large, large, LAST]), Reply(message_stream()))
    with connect(gateway, receive_buffer=2**14) as client:
        client.sendall(request(gateway, fake_upstream.url, stream=True, store=False))
        read_until(client, b"x" * 1000)
        received = bytearray()
        while not received.endswith(DONE + b"\r\n0\r\n\r\n"):
            received += client.recv(2**20)
        assert received.count(b"x") > 2 * SIZE - 100_000
