"""Record the events of a response until they are stored. Readers resume by their sequence numbers."""

import threading
from collections.abc import Mapping
from typing import Any

from floway_core.protocol import jsontext, sse
from floway_core.protocol.responses import FAILED

Batch = tuple[int, bytes]
"""The sequence number of the last event, and the events."""

MAX_UPSTREAM_NUMBER = 2**30
"""An upstream's higher sequence numbers are replaced: readers could not name them, nor the database store all."""


class EventRecorder:
    """Buffers the events of one response. One thread adds them, another one takes them."""

    def __init__(self, *, keeps: bool) -> None:
        """:param keeps: whether clients may read the events. If not, only their existence is recorded."""
        self.has_events = False
        """Whether any event has arrived."""
        self._keeps = keeps
        self._number = -1
        self._events = bytearray()
        self._lock = threading.Lock()

    def add(self, block: bytes) -> None:
        """Add complete events. Comments and ``[DONE]`` are dropped."""
        self.has_events = self.has_events or bool(block)
        if not (self._keeps and block):
            return
        events = b"".join(map(self._add_number, sse.split(block)))
        with self._lock:
            self._events += events

    def _add_number(self, event: bytes) -> bytes:
        """Return an event with a sequence number that is higher than the last one; ``b""`` if it is not one."""
        name, data = sse.parse(event)
        try:
            content = jsontext.loads(data)
        except ValueError:
            return b""
        if not isinstance(content, dict):
            return b""
        number = content.get("sequence_number")
        if type(number) is int and self._number < number <= MAX_UPSTREAM_NUMBER:
            self._number = number
            return event
        self._number += 1
        content["sequence_number"] = self._number
        return sse.encode(name or str(content.get("type")), jsontext.dumps(content))

    def fail(self, response: Mapping[str, Any], code: str, message: str) -> dict[str, Any]:
        """Add the event of a failure, and return the failed response object.

        :param response: the response object so far.
        """
        failed_response = {**response, "status": "failed", "error": {"code": code, "message": message}}
        self.add(sse.encode(FAILED, jsontext.dumps({"type": FAILED, "response": failed_response})))
        return failed_response

    def take(self) -> Batch | None:
        """Return the events that have not been taken yet; None if there are none."""
        with self._lock:
            if not self._events:
                return None
            events, self._events = bytes(self._events), bytearray()
        last = sse.split(events)[-1]
        return jsontext.loads(sse.parse(last)[1])["sequence_number"], events

    def put_back(self, batch: Batch) -> None:
        """Return events that could not be stored."""
        with self._lock:
            self._events[:0] = batch[1]
