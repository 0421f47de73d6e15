"""Synthesize the stream of a response that was not streamed."""

from collections.abc import Iterator, Mapping
from typing import Any

from floway_core.protocol import sse
from floway_core.protocol.response_writer import ResponseEventWriter


def synthesize_events(response: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the events of a stream that ends with ``response``.

    :param response: a complete response object. Without a ``status`` it counts as completed.
    """
    fields = {name: value for name, value in response.items() if name not in ("output", "usage", "status")}
    writer = ResponseEventWriter(**fields)
    yield from sse.split(writer.begin())
    for item in response.get("output") or []:
        yield from sse.split(writer.item(item))
    status = response.get("status")
    ended = status if status in ("completed", "incomplete", "failed") else "completed"
    yield writer.end(ended, **({"usage": response["usage"]} if "usage" in response else {}))
