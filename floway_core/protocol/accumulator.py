"""Process the events of one response: find the events for the client, and build the response object."""

from collections.abc import Callable, Mapping
from typing import Any

from floway_core.protocol import jsontext, sse
from floway_core.protocol.announcements import announced_response, follows_announcement, missing_announcements
from floway_core.protocol.event_parser import END_MARK, parse_data, parse_events
from floway_core.protocol.event_shortcuts import DeltaTarget, ResponseIdChange, append_delta, append_run
from floway_core.protocol.failures import NO_REASON, Failure, read_failure
from floway_core.protocol.item_events import item_events
from floway_core.protocol.item_versions import is_empty_message, normalize_item
from floway_core.protocol.large_blocks import one_at_a_time
from floway_core.protocol.output import OutputItems
from floway_core.protocol.output_item import OutputItem
from floway_core.protocol.responses import (
    COMPLETED,
    CREATED,
    FAILED,
    INCOMPLETE,
    TERMINAL_TYPE_OF_STATUS,
    TERMINAL_TYPES,
    apply_overrides,
    blank_response,
    has_error,
)
from floway_core.protocol.single_event import parse_usual_event, usual_beginning
from floway_core.protocol.text_events import DELTA_EVENTS, PART_EVENTS, WHOLE_EVENTS, TextLocation, locate_part


class ResponseAccumulator:
    """The state of one response while its events arrive.

    ``add_events`` and ``add_response`` take what the upstream sends, and ``fail`` ends what it does not complete.
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
        :param present: converts a failure of the upstream to the failure for the client.
        """
        self._response: dict[str, Any] = {}
        self._unread_announcements: list[bytes] = []
        """The data of newer events that announce the response, which is parsed only without a terminal event."""
        self.terminal: str | None = None
        """Type of the terminal event; None until it arrives."""
        self.terminal_event = b""
        """The terminal event for the client."""
        self.failure: Failure | None = None
        """The failure in an ``error`` event or the terminal event."""
        self.saw_done = False
        """Whether the upstream has sent ``[DONE]``."""
        self._overrides = overrides
        self._model = model
        self._rewrite = rewrite
        self._present = present
        self._items = OutputItems(str(overrides.get("id") or ""))
        self._sequence_number = -1
        """The highest ``sequence_number`` so far, without the deltas of ``_delta_target``."""
        self._delta_target: DeltaTarget | None = None
        self._delta_beginning = b""
        """How the next event begins if it is a further delta in the usual form."""
        self._has_sent_error = False
        self._is_announced = False
        """Whether the client has seen ``response.created``, or does not need it."""
        self._inserted_count = 0
        """Number of events inserted for the client; the sequence numbers of later events shift by it."""

    @property
    def response(self) -> dict[str, Any]:
        """The newest response object. After the terminal event it is complete, with its output."""
        unread, self._unread_announcements = self._unread_announcements, []
        for content in filter(None, map(parse_data, unread)):
            self._process_by_type(content)
        return self._response

    @property
    def has_content(self) -> bool:
        """Whether any output item has started."""
        return bool(self._items)

    def partial_output(self) -> list[dict[str, Any]]:
        """Return the output items as far as they have arrived."""
        return self._items.build_all("incomplete")

    @one_at_a_time
    def add_events(self, block: bytes) -> bytes:
        """Add complete events, up to the terminal one, which becomes ``terminal_event``.

        Response objects change by the overrides, and ids, indexes and items where the upstream's are not unique or not
        in the standard form. Events that clients need and the upstream omits are inserted. Errors get the form that
        clients understand. All other events do not change. ``[DONE]`` is dropped.

        :param block: one event or more, without a part of another.
        :returns: the events before the terminal one, for the client.
        """
        target = self._delta_target
        if target and (delta := parse_usual_event(block, self._delta_beginning)) and target.append_run((delta,), 0):
            return block
        events = sse.split(block) if len(block) >= sse.LARGE_BYTES else []  # small ones only when one changes
        contents = parse_events(block, events, None if self._rewrite else self._unread_announcements)
        del self._unread_announcements[:-2]
        position, count = append_run(self._delta_target, contents, 0), len(contents)
        while position < count:
            if (content := contents[position]) is not None:
                replacement = self._process_event(content)
                if replacement is not None and self._rewrite:
                    events = events or sse.split(block)
                    if isinstance(replacement, ResponseIdChange):
                        replacement = replacement.apply(events[position]) or self._encode(str(content["type"]), content)
                    events[position] = sse.replace_event(events[position], replacement)
                if self.terminal or self.saw_done:  # whatever follows in the block
                    self.terminal_event = events[position] if events and self.terminal else b""
                    return b"".join(events[:position])
            position = append_run(self._delta_target, contents, position + 1)
        return b"".join(events) if events else block

    def add_response(self, response: dict[str, Any]) -> None:
        """Add a complete response object, which counts as completed if it has no ``status``."""
        self._finish(COMPLETED, {**response})

    def fail(self, code: str, message: str) -> bytes:
        """End the response as failed.

        The ``error`` event contains it twice: at its top level (OpenAI's specification) and under ``error`` (its SDKs).

        :param code: error code, unless the upstream has reported a failure itself.
        :param message: message for the client, unless the upstream has reported a failure itself.
        :returns: the events that end the stream: ``error``, unless the client has seen one, and ``response.failed``.
        """
        failure = self._present(self.failure) if self.failure else Failure(message, code, "server_error")
        error_event = b"" if self._has_sent_error else self._encode_error(failure)
        error = {"code": failure.code or code, "message": failure.message}
        return error_event + self._end(FAILED, self._items.build_all("incomplete"), error=error)

    def interrupt(self, reason: str) -> None:
        """End the response as incomplete for ``reason``, with the items that are complete; see ``terminal_event``."""
        complete = self._items.build_all("completed", closed_only=True)
        self.terminal_event = self._end(INCOMPLETE, complete, incomplete_details={"reason": reason})

    def _end(self, terminal: str, output: list[dict[str, Any]], **fields: Any) -> bytes:
        """End the response without the upstream, and encode the terminal event."""
        response = {**blank_response(self._model), **self.response}
        apply_overrides(response, self._overrides)
        response |= {"status": terminal.removeprefix("response."), "output": output, **fields}
        self._response, self.terminal = response, terminal
        return self._encode_numbered(terminal, response=response)

    # --------------------------------------------------------------------------------------------------- single events
    def _process_event(self, content: dict[str, Any]) -> bytes | ResponseIdChange | None:
        """Update the state and the sequence numbers by one event.

        :returns: the replacement for the client; None if the event does not change.
        """
        if content is END_MARK:
            self.saw_done = True
            return b""
        if not self._rewrite:  # nobody sees the numbers
            self._delta_target = None
            return self._process_by_type(content)
        if self._delta_target:
            self._sequence_number = max(self._sequence_number, self._delta_target.sequence_number)
            self._delta_target = None
        is_renumbered = False
        if isinstance(number := content.get("sequence_number"), int):
            if self._inserted_count:
                content["sequence_number"] = number = number + self._inserted_count
                is_renumbered = True
            self._sequence_number = max(self._sequence_number, number)
        announcement = b"" if self._is_announced else self._announce_response(content)
        replacement = self._process_by_type(content)
        if not (announcement or is_renumbered):
            return replacement
        if not isinstance(replacement, bytes):
            replacement = self._encode(str(content.get("type")), content)
        return announcement + replacement

    def _announce_response(self, content: dict[str, Any]) -> bytes:
        """Encode ``response.created`` before the first event of a response, if the upstream omits it."""
        event_type = content.get("type")
        if event_type == CREATED:
            self._is_announced = True
        terminal = TERMINAL_TYPES.get(event_type or "")
        if self._is_announced or terminal == FAILED or not (terminal or follows_announcement(event_type)):
            return b""
        self._is_announced = True
        response = announced_response(content.get("response"), self._model)
        apply_overrides(response, self._overrides)
        return self._encode_inserted(CREATED, content, {"response": response})

    def _process_by_type(self, content: dict[str, Any]) -> bytes | ResponseIdChange | None:
        event_type: str = content.get("type") or ""
        if location := DELTA_EVENTS.get(event_type):
            return self._process_delta(content, location)
        if location := WHOLE_EVENTS.get(event_type):
            return self._process_part(content, location, is_part=event_type in PART_EVENTS)
        if event_type in ("response.output_item.added", "response.output_item.done"):
            return self._process_item(event_type, content)
        response, is_of_response = content.get("response"), event_type.startswith("response.")
        terminal = TERMINAL_TYPES.get(event_type) if not isinstance(response, dict) else None
        if terminal and (self._items or terminal == FAILED):  # without a response object: use the newest one
            changes = {"error": content.get("error"), "status": None} if event_type != COMPLETED else {"status": None}
            response = content["response"] = {**blank_response(self._model), **self.response, **changes}
        if is_of_response and isinstance(response, dict):
            return self._process_response(event_type, content, response)
        if event_type in ("error", "response.error") or (content.get("error") and not is_of_response):
            return self._process_error(content)
        if content.get("type") is None and (failure := read_failure(content)):
            return self._process_error(content, failure)
        return None

    def _process_delta(self, content: dict[str, Any], location: TextLocation) -> bytes | None:
        item = self._items.find_or_add(content, location)
        if item is None:
            self._items.add_unassigned(location, content.get("delta"))
            return None
        replacement = None
        if self._rewrite:
            inserted = self._encode_announcement(content, item, location)
            replacement = self._with_client_ids(content, item, inserted, location.index_field)
        if not item.is_closed:
            part = item.get_part(location, content.get(location.index_field))
            append_delta(part.text, content.get("delta"))
            is_usual = replacement is None and not self._inserted_count
            self._delta_target = DeltaTarget.find(content, location, part.text) if is_usual else None
            self._delta_beginning = usual_beginning(str(content["type"]))
        return replacement

    def _process_part(self, content: dict[str, Any], location: TextLocation, *, is_part: bool) -> bytes | None:
        if is_part:
            location = locate_part(content, location)
        item = self._items.find_or_add(content, location)
        if item is None:
            return None
        inserted = self._encode_announcement(content, item, location) if self._rewrite else b""
        if not item.is_closed:
            item.fill_part(content, location, is_part=is_part)
        return self._with_client_ids(content, item, inserted, location.index_field) if self._rewrite else None

    def _process_item(self, event_type: str, content: dict[str, Any]) -> bytes | None:
        payload, index = content.get("item"), content.get("output_index")
        if not isinstance(payload, dict):
            return None
        is_new, normalized = event_type == "response.output_item.added", normalize_item(payload)
        item = self._items.open_item(normalized, index) if is_new else self._items.close_item(normalized, index)
        if not is_new and is_empty_message(item.payload):  # further events or the final response may have its content
            item.is_closed = False
            return b""
        if not self._rewrite:
            return None
        if is_new:
            client_payload = {**normalized, "id": item.id}
            if item.is_announced:
                return b""
        else:
            client_payload = item.build("completed") or payload
        missing = [] if is_new or item.is_announced else [next(item_events(client_payload, item.index))]
        announcement = b"".join(self._encode_inserted(name, content, fields) for name, fields in missing)
        item.is_announced = True
        if client_payload != payload:
            content = {**content, "output_index": item.index, "item": client_payload}
            return announcement + self._encode(event_type, content)
        return self._with_client_ids(content, item, announcement)

    def _encode_announcement(self, content: dict[str, Any], item: OutputItem, location: TextLocation) -> bytes:
        """Encode the events that a client needs before a text or part event, if the upstream omits them."""
        part_index = content.get(location.index_field)
        events = [] if item.is_closed else missing_announcements(item, location, part_index, event=content)
        if not events:
            return b""
        item.is_announced = True
        index = {"output_index": item.index}
        return b"".join(self._encode_inserted(name, content, {**index, **fields}) for name, fields in events)

    def _encode_inserted(self, event_type: str, successor: dict[str, Any], content: dict[str, Any]) -> bytes:
        """Encode an event of the gateway that is inserted before an event of the upstream.

        :param successor: the upstream's event. The new event takes its ``sequence_number``, which grows by one.
        """
        if not isinstance(number := successor.get("sequence_number"), int):
            return self._encode(event_type, {"type": event_type, **content})
        successor["sequence_number"] = self._sequence_number = number + 1
        self._inserted_count += 1
        return self._encode(event_type, {"type": event_type, "sequence_number": number, **content})

    def _with_client_ids(
        self, content: dict[str, Any], item: OutputItem, inserted: bytes = b"", index_field: str = ""
    ) -> bytes | None:
        """Encode an event with the client's id and index of the item; None if it already has them.

        :param inserted: other events to insert before it.
        :param index_field: field of the event with the index of the part; empty if the event needs none.
        """
        address = item.find_new_address(content, index_field)
        return inserted + self._encode(str(content["type"]), {**content, **address}) if address or inserted else None

    def _process_error(self, content: dict[str, Any], failure: Failure | None = None) -> bytes | None:
        self.failure = failure or read_failure(content) or Failure(NO_REASON, "upstream_failed")
        presented = self._present(self.failure)
        self._has_sent_error = True
        error = content.get("error")
        payload = error if isinstance(error, dict) else content
        if presented is self.failure and content.get("type") == "error" and isinstance(payload.get("message"), str):
            return None
        return self._encode_error(presented, content.get("sequence_number"))

    def _process_response(
        self, event_type: str, content: dict[str, Any], response: dict[str, Any]
    ) -> bytes | ResponseIdChange | None:
        """Process an event with the response object. Missing events are inserted before the terminal one."""
        old_id, number = response.get("id"), self._sequence_number
        missing_events: list[bytes] = []
        if event_type in TERMINAL_TYPES:
            original = dict(response) if self._rewrite else response
            missing_events = self._finish(TERMINAL_TYPES[event_type], response)
            has_other_changes = self._rewrite and {**original, "id": response.get("id")} != response
        else:
            self._response, self._unread_announcements = response, []
            has_other_changes = apply_overrides(response, self._overrides)
        if not self._rewrite:
            return None
        content["type"] = self.terminal or event_type
        if missing_events:
            content["sequence_number"] = number + len(missing_events) + 1
        elif not has_other_changes and content["type"] == event_type:
            new_id = response.get("id")
            if isinstance(old_id, str) and isinstance(new_id, str):
                return ResponseIdChange(jsontext.dumps(old_id), jsontext.dumps(new_id))
        return b"".join(missing_events) + self._encode(str(content["type"]), content)

    # ---------------------------------------------------------------------------------------------- the terminal event
    def _finish(self, terminal: str, response: dict[str, Any]) -> list[bytes]:
        """Complete the final response object in place.

        :param terminal: standard type of the terminal event.
        :returns: missing events for the client, of items that the upstream never announced or closed.
        """
        status = response.get("status")
        if isinstance(status, str) and terminal != FAILED:
            terminal = TERMINAL_TYPE_OF_STATUS.get(status, terminal)
        output = response.get("output")
        final_output = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
        if terminal == FAILED or (has_error(response) and not final_output and not self._items):
            terminal = FAILED
            self._process_final_error(response)
        apply_overrides(response, self._overrides)
        response["status"] = terminal.removeprefix("response.")
        items = self._items.merge_final(final_output)
        open_status = "incomplete" if terminal != COMPLETED else "completed"
        built = [(item, payload) for item in items if (payload := item.build(open_status)) is not None]
        response["output"] = [payload for _, payload in built]
        self._response, self._unread_announcements, self.terminal = response, [], terminal
        if terminal == FAILED or not self._rewrite:
            return []
        return [event for item, payload in built if not item.is_closed for event in self._encode_missing(item, payload)]

    def _process_final_error(self, response: dict[str, Any]) -> None:
        """Record the failure of the terminal event, and give its ``error`` the form of the Responses API."""
        error = response.get("error")
        self.failure = (read_failure({"error": error}) if error else None) or self.failure
        if self.failure is None:
            return
        presented = self._present(self.failure)
        if presented is not self.failure or not (isinstance(error, dict) and isinstance(error.get("message"), str)):
            response["error"] = {"code": presented.code or "server_error", "message": presented.message}

    def _encode_missing(self, item: OutputItem, payload: dict[str, Any]) -> list[bytes]:
        """Encode the events of an item that the client has not seen: all of them, or only that it is closed."""
        item.is_closed = True
        events = list(item_events(payload, item.index))[-1 if item.is_announced else 0 :]
        return [self._encode_numbered(event_type, **content) for event_type, content in events]

    # -------------------------------------------------------------------------------------------------------- encoding
    def _encode_error(self, failure: Failure, number: object = None) -> bytes:
        """Encode an ``error`` event.

        :param number: its ``sequence_number``, if it replaces an event that has one.
        """
        self._has_sent_error = True
        if isinstance(number, int):
            return self._encode("error", {"type": "error", "sequence_number": number, **failure.event_fields()})
        return self._encode_numbered("error", **failure.event_fields())

    def _encode_numbered(self, event_type: str, **content: Any) -> bytes:
        """Encode an event of the gateway with the next sequence number."""
        if self._delta_target:
            self._sequence_number = max(self._sequence_number, self._delta_target.sequence_number)
        self._sequence_number += 1
        return self._encode(event_type, {"type": event_type, "sequence_number": self._sequence_number, **content})

    def _encode(self, event_type: str, content: Mapping[str, Any]) -> bytes:
        return sse.encode(event_type, jsontext.dumps(content))
