"""Following the events of one response: which events the client sees, and the response object that they add up to."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from floway_core.protocol import jsontext, sse
from floway_core.protocol.event_parser import parse_events
from floway_core.protocol.failures import NO_REASON, Failure, read_failure
from floway_core.protocol.output import OutputItem, OutputItems
from floway_core.protocol.responses import COMPLETED, FAILED, INCOMPLETE, blank_response
from floway_core.protocol.synthesis import item_events
from floway_core.protocol.text_events import DELTA_EVENTS, PART_EVENTS, TEXT_DONE_EVENTS, TextLocation
from floway_core.protocol.usage import complete_usage

_TERMINAL_TYPES = {
    COMPLETED: COMPLETED,
    INCOMPLETE: INCOMPLETE,
    FAILED: FAILED,
    "response.done": COMPLETED,
    "response.cancelled": FAILED,
    "response.canceled": FAILED,
}
"""The terminal events that upstreams send, and the standard type of each."""

_TERMINAL_TYPE_OF_STATUS = {"incomplete": INCOMPLETE, "failed": FAILED, "cancelled": FAILED, "canceled": FAILED}


class _ResponseIdChange(NamedTuple):
    """Replaces the id of the response in an event, where nothing else changes: cheaper than encoding it again."""

    old_id: bytes
    new_id: bytes

    def apply(self, event: bytes) -> bytes | None:
        """Return the event with the new id; None if the old one occurs more than once, perhaps in a text."""
        return event.replace(self.old_id, self.new_id) if event.count(self.old_id) == 1 else None


_Replacement = bytes | _ResponseIdChange
"""What the client sees in the place of an event."""


class _DeltaTarget:
    """The text that the last delta was appended to. Most deltas belong to the same text as the one before."""

    __slots__ = ("_event_type", "_index_field", "_item_id", "_output_index", "_part_index", "_text", "sequence_number")

    def __init__(self, event: Mapping[str, Any], index_field: str | None, text: bytearray) -> None:
        self._event_type = event["type"]
        self._item_id = event.get("item_id")
        self._output_index = event.get("output_index")
        self._index_field = index_field
        self._part_index = event.get(index_field) if index_field else None
        self._text = text
        self.sequence_number = -1
        """That of the last delta."""

    def append(self, event: Mapping[str, Any]) -> bool:
        """Append the delta of an event if it belongs to this text.

        :returns: whether it does.
        """
        if (
            event["type"] != self._event_type
            or event.get("item_id") != self._item_id
            or event.get("output_index") != self._output_index
            or (self._index_field and event.get(self._index_field) != self._part_index)
        ):
            return False
        delta, number = event.get("delta"), event.get("sequence_number")
        if isinstance(delta, str):
            try:
                self._text += delta.encode()
            except UnicodeEncodeError:  # half of a surrogate pair; the next delta starts with the other half
                self._text += delta.encode("utf-8", "surrogatepass")
        if isinstance(number, int):
            self.sequence_number = number
        return True


class ResponseAccumulator:
    """The state of one response while its events arrive.

    ``add_events`` and ``add_response`` take what the upstream sends. ``fail`` ends a response that the upstream does
    not complete.
    """

    def __init__(
        self,
        overrides: Mapping[str, Any],
        model: str = "",
        *,
        rewrite: bool = True,
        present: Callable[[Failure], Failure] = lambda failure: failure,
    ) -> None:
        """:param overrides: fields of the response object that replace those of the upstream, such as ``id``.
        :param model: the requested model, for a failure before the upstream has sent a response object.
        :param rewrite: whether a client sees the events. If not, only ``response`` matters, and no event is encoded.
        :param present: converts a failure of the upstream to what the client may see of it.
        """
        self.response: dict[str, Any] = {}
        """The newest response object. After the terminal event it is complete, with its output."""
        self.terminal: str | None = None
        """Type of the terminal event; None until it arrives."""
        self.terminal_event = b""
        """The terminal event as the client sees it."""
        self.failure: Failure | None = None
        """The failure that an ``error`` event or the terminal event reported."""
        self.saw_done = False
        """Whether the upstream has sent ``[DONE]``."""
        self._overrides = overrides
        self._model = model
        self._rewrite = rewrite
        self._present = present
        self._items = OutputItems(str(overrides.get("id") or ""))
        self._sequence_number = -1
        """The highest ``sequence_number`` so far, without the deltas of ``_delta_target``."""
        self._delta_target: _DeltaTarget | None = None
        self._has_sent_error = False

    @property
    def has_content(self) -> bool:
        """Whether any output item has begun."""
        return bool(self._items)

    def add_events(self, block: bytes) -> bytes:
        """Add complete events, up to the terminal one, which becomes ``terminal_event``.

        Response objects change by the overrides, and ids and indexes where the upstream's are not unique. Errors get
        the form that clients understand. All other events stay byte for byte. ``[DONE]`` is left out.

        :param block: one event or more, without a part of another.
        :returns: the events before the terminal one, as the client sees them.
        """
        events: list[bytes] = []  # split only when one changes
        for position, content in enumerate(parse_events(block)):
            replacement: _Replacement | None = None
            if content is not None:
                if (target := self._delta_target) and target.append(content):
                    continue
                replacement = self._process_event(content)
                if replacement is None:
                    continue
            events = events or sse.split(block)
            event = events[position]
            if content is None:
                if sse.parse(event)[1].strip() == b"[DONE]":
                    events[position], self.saw_done = b"", True
            elif isinstance(replacement, _ResponseIdChange):
                changed = replacement.apply(event) or _encode_event(content["type"], content)
                events[position] = _replace_event(event, changed)
            elif replacement is not None:
                events[position] = _replace_event(event, replacement)
            if self.terminal:
                self.terminal_event = events[position]
                return b"".join(events[:position])
        return b"".join(events) if events else block

    def add_response(self, response: dict[str, Any]) -> None:
        """Add a complete response object, from an upstream that does not stream.

        :param response: without a ``status`` it counts as completed.
        """
        self._finish(COMPLETED, {**response})

    def fail(self, code: str, message: str) -> bytes:
        """End the response as failed.

        The ``error`` event holds the error twice, where clients look for it: in its top level (the OpenAI
        specification) and under ``error`` (the OpenAI SDKs).

        :param code: error code, unless the upstream has reported a failure itself.
        :param message: message for the client, with the same exception.
        :returns: the events that end the stream: ``error``, unless the client has seen one, and ``response.failed``.
        """
        failure = self._present(self.failure) if self.failure else Failure(message, code, "server_error")
        error_event = b"" if self._has_sent_error else self._encode_error(failure)
        response = {**blank_response(self._model), **self.response}
        self._apply_overrides(response)
        items = [item.build("incomplete") for item in self._items.merge_final([])]
        response["status"] = "failed"
        response["output"] = [item for item in items if item is not None]
        response["error"] = {"code": failure.code or code, "message": failure.message}
        self.response, self.terminal = response, FAILED
        return error_event + self._encode_numbered(FAILED, response=response)

    # --------------------------------------------------------------------------------------------------- single events
    def _process_event(self, content: dict[str, Any]) -> _Replacement | None:
        """Update the state by one event.

        :returns: what the client sees instead; None if it sees the event unchanged.
        """
        self._update_sequence_number(content.get("sequence_number"))
        event_type: str = content["type"] or ""
        if location := DELTA_EVENTS.get(event_type):
            return self._process_delta(content, location)
        if location := TEXT_DONE_EVENTS.get(event_type) or PART_EVENTS.get(event_type):
            return self._process_part(content, location)
        if event_type in ("response.output_item.added", "response.output_item.done"):
            return self._process_item(content)
        is_of_response = event_type.startswith("response.")
        if is_of_response and isinstance(response := content.get("response"), dict):
            return self._process_response(content, response)
        if event_type in ("error", "response.error") or (content.get("error") and not is_of_response):
            return self._process_error(content, read_failure(content))
        if content["type"] is None and (failure := read_failure(content)):
            return self._process_error(content, failure)
        return None

    def _update_sequence_number(self, number: object) -> None:
        """Record the sequence number of an event, and that of the last delta: the event ends a run of deltas."""
        if isinstance(number, int):
            self._sequence_number = max(self._sequence_number, number)
        if self._delta_target:
            self._sequence_number = max(self._sequence_number, self._delta_target.sequence_number)
            self._delta_target = None

    def _process_delta(self, content: dict[str, Any], location: TextLocation) -> bytes | None:
        item = self._items.find_or_add(content, location)
        if item is None:
            return None
        replacement = self._with_client_ids(content, item)
        if not item.is_closed:
            target = _DeltaTarget(content, location.index_field, item.get_part(location, content).text)
            target.append(content)
            self._delta_target = target if replacement is None else None
        return replacement

    def _process_part(self, content: dict[str, Any], location: TextLocation) -> bytes | None:
        item = self._items.find_or_add(content, location)
        if item is None:
            return None
        if not item.is_closed:
            part = item.get_part(location, content)
            if content["type"] in PART_EVENTS and isinstance(content.get("part"), dict):
                part.payload = content["part"]
            elif isinstance(text := content.get(location.text_field), str):
                part.text[:] = text.encode("utf-8", "surrogatepass")
            if isinstance(name := content.get("name"), str) and location.index_field is None:
                item.payload.setdefault("name", name)
        return self._with_client_ids(content, item)

    def _process_item(self, content: dict[str, Any]) -> bytes | None:
        payload, index, event_type = content.get("item"), content.get("output_index"), content["type"]
        if not isinstance(payload, dict):
            return None
        is_new = event_type == "response.output_item.added"
        item = self._items.open_item(payload, index) if is_new else self._items.close_item(payload, index)
        if item.id is not None and payload.get("id") != item.id:
            return _encode_event(
                event_type, {**content, "output_index": item.index, "item": {**payload, "id": item.id}}
            )
        return self._with_client_ids(content, item)

    def _with_client_ids(self, content: dict[str, Any], item: OutputItem) -> bytes | None:
        """Encode an event with the id and index by which the client knows the item; None if it has these already."""
        index, item_id = content.get("output_index"), content.get("item_id")
        has_client_id = item_id is None or item_id == item.id or item.id is None
        if not self._rewrite or (index in (None, item.index) and has_client_id):
            return None
        changed = {**content, "output_index": item.index}
        if not has_client_id:
            changed["item_id"] = item.id
        return _encode_event(content["type"], changed)

    def _process_error(self, content: dict[str, Any], failure: Failure | None) -> bytes | None:
        self.failure = failure or Failure(NO_REASON, "upstream_failed")
        presented = self._present(self.failure)
        self._has_sent_error = True
        error = content.get("error")
        message = (error if isinstance(error, dict) else content).get("message")
        if presented is self.failure and content["type"] == "error" and isinstance(message, str):
            return None
        return self._encode_error(presented, content.get("sequence_number"))

    def _process_response(self, content: dict[str, Any], response: dict[str, Any]) -> _Replacement | None:
        """Process an event that carries the response object. Missing events go in front of the terminal one."""
        event_type, original, number = content["type"], dict(response), self._sequence_number
        missing_events: list[bytes] = []
        if event_type in _TERMINAL_TYPES:
            missing_events = self._finish(_TERMINAL_TYPES[event_type], response)
        else:
            self.response = response
            self._apply_overrides(response)
        if not self._rewrite:
            return b"" if self.terminal else None
        content["type"] = self.terminal or event_type
        if missing_events:
            content["sequence_number"] = number + len(missing_events) + 1
        elif content["type"] == event_type and _differ_by_id(original, response):
            return _ResponseIdChange(jsontext.dumps(original["id"]), jsontext.dumps(response["id"]))
        return b"".join(missing_events) + _encode_event(content["type"], content)

    # ---------------------------------------------------------------------------------------------- the terminal event
    def _finish(self, terminal: str, response: dict[str, Any]) -> list[bytes]:
        """Complete the final response object in place.

        :param terminal: standard type of the terminal event.
        :returns: the events that the client still lacks, for items that the upstream never announced or closed.
        """
        status, output = response.get("status"), response.get("output")
        if isinstance(status, str) and terminal != FAILED:
            terminal = _TERMINAL_TYPE_OF_STATUS.get(status, terminal)
        final_output = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
        if terminal == FAILED or (response.get("error") and not final_output and not self._items):
            terminal = FAILED
            self._process_final_error(response)
        self._apply_overrides(response)
        response["status"] = terminal.removeprefix("response.")
        open_status = "completed" if terminal == COMPLETED else "incomplete"
        built = [(item, item.build(open_status)) for item in self._items.merge_final(final_output)]
        finished = [(item, payload) for item, payload in built if payload is not None]
        response["output"] = [payload for _, payload in finished]
        self.response, self.terminal = response, terminal
        if terminal == FAILED or not self._rewrite:
            return []
        missing = [self._encode_missing(item, payload) for item, payload in finished if not item.is_closed]
        return [event for events in missing for event in events]

    def _apply_overrides(self, response: dict[str, Any]) -> None:
        """Set the gateway's fields and complete ``usage``. An override of None adds no field that is missing."""
        for name, value in self._overrides.items():
            if value is not None or response.get(name):
                response[name] = value
        if response.get("usage") is not None:
            response["usage"] = complete_usage(response["usage"])

    def _process_final_error(self, response: dict[str, Any]) -> None:
        """Record the failure of the terminal event, and give its ``error`` the form of the Responses API."""
        error = response.get("error")
        self.failure = (read_failure({"error": error}) if error else None) or self.failure
        if self.failure is None:
            return
        presented = self._present(self.failure)
        is_standard = isinstance(error, dict) and isinstance(error.get("message"), str)
        if not is_standard or presented is not self.failure:
            response["error"] = {"code": presented.code or "server_error", "message": presented.message}

    # -------------------------------------------------------------------------------------------------------- encoding
    def _encode_missing(self, item: OutputItem, payload: dict[str, Any]) -> list[bytes]:
        """Encode the events of an item that the client has not seen: all of them, or only that it is closed."""
        item.is_closed = True
        events = list(item_events(payload, item.index))
        if item.is_announced:
            events = events[-1:]
        return [self._encode_numbered(event_type, **content) for event_type, content in events]

    def _encode_error(self, failure: Failure, number: object = None) -> bytes:
        """Encode an ``error`` event.

        :param number: its ``sequence_number``, if it replaces an event that has one.
        """
        self._has_sent_error = True
        error = failure.error_object()
        fields = {name: error[name] for name in ("code", "message", "param")}
        if isinstance(number, int):
            return _encode_event("error", {"type": "error", **fields, "sequence_number": number, "error": error})
        return self._encode_numbered("error", **fields, error=error)

    def _encode_numbered(self, event_type: str, **content: Any) -> bytes:
        """Encode an event of the gateway's own with the next sequence number."""
        if self._delta_target:
            self._sequence_number = max(self._sequence_number, self._delta_target.sequence_number)
        self._sequence_number += 1
        return _encode_event(event_type, {"type": event_type, "sequence_number": self._sequence_number, **content})


def _encode_event(event_type: object, content: Mapping[str, Any]) -> bytes:
    return sse.encode(str(event_type), jsontext.dumps(content))


def _replace_event(old: bytes, new: bytes) -> bytes:
    """Return ``new`` behind the empty lines that ``old`` begins with."""
    line_ends = len(old) - len(old.lstrip(b"\r\n"))
    return old[:line_ends] + new.lstrip(b"\r\n")


def _differ_by_id(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether two response objects with an id differ in nothing else."""
    has_ids = isinstance(first.get("id"), str) and isinstance(second.get("id"), str)
    return has_ids and {**first, "id": second["id"]} == second
