"""The body of the answer to a frame: the messages of the backend as server-sent events."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from floway_codex.identity.turns import TURN_STATE
from floway_codex.websocket import events
from floway_codex.websocket.connection import ConnectionLost, WebSocketConnection
from floway_core.contexts import ClientConnection
from floway_core.errors import UpstreamBroken
from floway_core.protocol import jsontext
from floway_core.provider import ResponseBody


@dataclass
class Answer:
    """The facts that the transport reads from the events of an answer, which are also relayed."""

    output: dict[int, dict[str, Any]] = field(default_factory=dict)
    """The finished items, by their index."""
    response_id: str | None = None
    """The id of the response, once it is complete."""
    turn_state: str | None = None
    limits: dict[str, Any] | None = None
    """The latest report of the account's limits."""
    error: dict[str, Any] | None = None
    """The event with which the backend refused the request, before any content."""
    has_begun: bool = False
    has_content: bool = False
    has_ended: bool = False


class WebSocketBody(ResponseBody):
    """The events of one answer.

    Its descriptor stands for the connection: a message is handed out as soon as it is complete, so nothing is held back
    but parts of messages. It is a duplicate, because the connection is free for the next request once the answer is
    complete: the client may send that before this body is closed.
    """

    def __init__(
        self,
        connection: WebSocketConnection,
        show_turn_state: Callable[[str], str | None],
        on_complete: Callable[[Answer], None],
    ) -> None:
        """:param show_turn_state: returns the form of a turn state for the client; None if it must not see any.
        :param on_complete: called when the answer is complete, by the thread that reads; it keeps the connection.
        """
        self.connection = connection
        self.answer = Answer()
        self.is_relayed = False
        """Whether the client receives the events already. Then a refusal is relayed as one of them."""
        self._show_turn_state = show_turn_state
        self._on_complete = on_complete
        self._descriptor: int | None = None
        self._events = b""
        self._is_closed = False

    def wait(self, timeout: float, client: ClientConnection) -> bool:
        """Take messages until some have arrived. Return False if none has within ``timeout`` seconds.

        :raises ConnectionLost: the connection has ended before the answer.
        :raises ClientDisconnected, ShuttingDown: the client disconnected, or the gateway shuts down.
        """
        messages = self.connection.read(timeout, client)
        self._take(messages or [])
        return messages is not None

    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        """See ``ResponseBody.read``."""
        while not self._events:
            if self.answer.has_ended:
                return b""
            try:
                messages = self.connection.read(timeout, client)
            except ConnectionLost:
                raise UpstreamBroken("The upstream closed the connection in the middle of its answer.") from None
            if messages is None:
                return None
            self._take(messages)
        events_read, self._events = self._events, b""
        return events_read

    def fileno(self) -> int | None:
        """See ``ResponseBody.fileno``."""
        if self._descriptor is None and not (self._is_closed or self.answer.has_ended):
            with contextlib.suppress(OSError):  # without one, a thread reads the body
                self._descriptor = os.dup(self.connection.fileno())
        return self._descriptor

    def close(self) -> None:
        """Drop the connection if the answer is not complete: that is how the CLI interrupts."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self.answer.response_id is None:
            self.connection.close()

    # --------------------------------------------------------------------------------------------------------- events
    def _take(self, messages: list[bytes]) -> None:
        new_events = [self._events]
        for message in messages:
            kind = events.read_kind(message)
            if kind is not None and not self.answer.has_ended:
                new_events.append(self._take_event(kind, message))
        self._events = b"".join(new_events)

    def _take_event(self, kind: str, message: bytes) -> bytes:
        answer = self.answer
        if kind == events.METADATA:
            return self._take_metadata(events.parse_whole(message))
        if kind == events.ERROR:
            return self._take_error(events.parse_whole(message))
        if kind == events.RATE_LIMITS:
            answer.limits = events.parse_whole(message)
        elif kind == events.ITEM_DONE:
            event = events.parse_whole(message)
            if isinstance(event.get("item"), dict):
                index = event.get("output_index")
                answer.output[index if isinstance(index, int) else len(answer.output)] = event["item"]
        elif kind in events.TERMINAL:
            answer.has_ended = True
            if kind == events.COMPLETED:
                self._take_response(events.parse_whole(message).get("response"))
        # before ``response.created`` the backend may still refuse the request
        answer.has_begun = answer.has_begun or kind not in (events.RATE_LIMITS, events.METADATA)
        answer.has_content = answer.has_content or kind not in events.WITHOUT_CONTENT
        return events.to_sse(kind, message)

    def _take_metadata(self, event: dict[str, Any]) -> bytes:
        """Store the turn state. The client receives it encrypted, so that only this turn can use it."""
        headers = dict(events.read_headers(event))
        state = headers.get(TURN_STATE)
        if state is None:
            return b""
        self.answer.turn_state = self.answer.turn_state or state
        if (shown := self._show_turn_state(state)) is None:
            return b""
        return events.to_sse(events.METADATA, jsontext.dumps({"type": events.METADATA, "headers": {TURN_STATE: shown}}))

    def _take_error(self, event: dict[str, Any]) -> bytes:
        """End the answer with an error. Before any content, it becomes an error response, as over HTTP."""
        status = events.read_status(event)
        if status is not None:
            self.answer.has_ended = True
            if not (self.answer.has_content or self.is_relayed):
                self.answer.error = event
                return b""
        self.answer.has_content = True
        shown = {name: value for name, value in event.items() if name != "headers"}  # they describe the account
        return events.to_sse(events.ERROR, jsontext.dumps(shown))

    def _take_response(self, response: Any) -> None:
        """Store the id and the output, which the next request of the conversation may continue."""
        if not isinstance(response, dict) or not isinstance(response.get("id"), str):
            return
        self.answer.response_id = response["id"]
        output = response.get("output")
        if not self.answer.output and isinstance(output, list):
            self.answer.output = dict(enumerate(item for item in output if isinstance(item, dict)))
        self._on_complete(self.answer)
