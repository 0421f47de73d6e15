"""Write the events of a Responses stream step by step, for upstreams with another format."""

from collections.abc import Mapping, Sequence
from typing import Any

from uuid6 import uuid7

from floway_core.protocol import jsontext, sse
from floway_core.protocol.failures import Failure
from floway_core.protocol.item_events import item_events
from floway_core.protocol.items import make_id
from floway_core.protocol.part_kinds import OUTPUT_TEXT, REASONING_TEXT, REFUSAL, SUMMARY_TEXT, PartKind
from floway_core.protocol.responses import blank_response

_BLANK_ITEMS: dict[str, dict[str, Any]] = {
    "message": {"type": "message", "role": "assistant", "content": []},
    "reasoning": {"type": "reasoning", "summary": []},
}


class _OpenItem:
    """An item that is being written."""

    __slots__ = ("delta_head", "deltas", "index", "kind", "part_index", "payload")

    def __init__(self, payload: dict[str, Any], index: int) -> None:
        self.payload = payload
        self.index = index
        self.kind: PartKind | None = None
        """The kind of the open part."""
        self.part_index = -1
        self.deltas: list[str] = []
        """The deltas of the open part, or of the tool call."""
        self.delta_head = b""
        """The bytes before the text in each delta event."""


class ResponseEventWriter:
    """Writes one response as events of the Responses API. Each method returns the encoded events of its step.

    The writer generates ids, indexes and sequence numbers, opens and closes items and parts, and builds the response
    object. It opens a message or a reasoning item with the first delta of its text, and closes it when another item
    starts. Several tool calls may be open at once. The end of the stream, ``complete`` or ``fail``, closes all of them.
    """

    def __init__(self, model: str = "", **fields: Any) -> None:
        """:param model: the name of the model.
        :param fields: further fields of the response object, such as ``id`` and ``created_at``.
        """
        self.response: dict[str, Any] = {**blank_response(model), "id": f"resp_{uuid7().hex}", **fields}
        """The response object so far."""
        self._id_suffix = str(self.response["id"]).removeprefix("resp_")[-32:]
        self._sequence_number = 0
        self._has_begun = False
        self._output: list[dict[str, Any]] = []
        """All items. Open ones contain no text yet."""
        self._text_item: _OpenItem | None = None
        """The open message or reasoning item."""
        self._calls: dict[object, _OpenItem] = {}
        """The open tool calls by the caller's keys."""

    def begin(self) -> bytes:
        """Announce the response. The other methods do so if necessary; a second call returns ``b""``."""
        if self._has_begun:
            return b""
        self._has_begun = True
        announced = {**self.response, "status": "in_progress", "output": [], "usage": None}
        return self._event("response.created", response=announced) + self._event(
            "response.in_progress", response=announced
        )

    # ---------------------------------------------------------------------------------------------------------- texts
    def text(self, delta: str, logprobs: Sequence[Any] = ()) -> bytes:
        """Append to the text of a message."""
        item = self._text_item
        if item is None or item.kind is not OUTPUT_TEXT:
            return self._open_part(OUTPUT_TEXT) + self.text(delta, logprobs)
        item.deltas.append(delta)
        self._sequence_number = number = self._sequence_number + 1
        encoded_logprobs = b"[]"
        if logprobs:
            encoded_logprobs = jsontext.dumps(list(logprobs))
            item.payload["content"][item.part_index]["logprobs"].extend(logprobs)
        return b'%b%b,"logprobs":%b,"sequence_number":%d}\n\n' % (
            item.delta_head,
            jsontext.dumps(delta),
            encoded_logprobs,
            number - 1,
        )

    def refusal(self, delta: str) -> bytes:
        """Append to the refusal of a message."""
        return self._append(REFUSAL, delta)

    def reasoning(self, delta: str, *, summary: bool = False) -> bytes:
        """Append to the reasoning.

        :param summary: whether it is a summary of hidden reasoning.
        """
        return self._append(SUMMARY_TEXT if summary else REASONING_TEXT, delta)

    def annotation(self, annotation: Mapping[str, Any]) -> bytes:
        """Add an annotation, such as a citation, to the text of the open message."""
        item = self._text_item
        if item is None or item.kind is not OUTPUT_TEXT:
            return self._open_part(OUTPUT_TEXT) + self.annotation(annotation)
        annotations = item.payload["content"][item.part_index]["annotations"]
        annotations.append(dict(annotation))
        return self._event(
            "response.output_text.annotation.added",
            item_id=item.payload["id"],
            output_index=item.index,
            content_index=item.part_index,
            annotation_index=len(annotations) - 1,
            annotation=dict(annotation),
        )

    def end_part(self) -> bytes:
        """Close the open part: the next text of its kind begins a new part of the same item."""
        return self._close_part() if self._text_item else b""

    def end_reasoning(self, encrypted_content: str | None = None, item_id: str | None = None) -> bytes:
        """Close the reasoning item.

        :param encrypted_content: the content that the upstream needs to read its reasoning again. Without any text, an
            item with only this content is written.
        :param item_id: the upstream's id of the item, if it has one and there was no text.
        """
        events = b""
        item = self._text_item
        if item is None or item.payload["type"] != "reasoning":
            if encrypted_content is None:
                return b""
            events = self._close_text_item() + self._open_text_item("reasoning", item_id)
            item = self._text_item
        assert item
        if encrypted_content is not None:
            item.payload["encrypted_content"] = encrypted_content
        return events + self._close_text_item()

    # ----------------------------------------------------------------------------------------------------- tool calls
    def open_call(self, key: object, call_id: str, name: str, *, custom: bool = False, **fields: Any) -> bytes:
        """Start a tool call. An open call with the same key is closed first.

        :param key: identifies the call in ``call_delta`` and ``close_call``.
        :param custom: whether the tool takes free text instead of JSON arguments.
        :param fields: further fields of the item, such as ``namespace``.
        """
        item_type, text_field = ("custom_tool_call", "input") if custom else ("function_call", "arguments")
        events = self.begin() + self._close_text_item() + self.close_call(key)
        payload = {"id": "", "type": item_type, "call_id": call_id, "name": name, text_field: "", **fields}
        item, opening = self._open_item(payload, None)
        event_type = f"response.{item_type}_{text_field}.delta"
        item.delta_head = _delta_head(event_type, item)
        self._calls[key] = item
        return events + opening

    def call_delta(self, key: object, delta: str) -> bytes:
        """Append to the arguments or the input of an open call.

        :raises KeyError: no call is open under ``key``.
        """
        item = self._calls[key]
        item.deltas.append(delta)
        self._sequence_number = number = self._sequence_number + 1
        return b'%b%b,"sequence_number":%d}\n\n' % (item.delta_head, jsontext.dumps(delta), number - 1)

    def close_call(self, key: object) -> bytes:
        """End a call; ``b""`` if none is open under ``key``."""
        return self._close_call(key, "completed") if key in self._calls else b""

    def is_open(self, key: object) -> bool:
        """Return whether a call is open under ``key``."""
        return key in self._calls

    # ---------------------------------------------------------------------------------------------------- whole items
    def item(self, item: Mapping[str, Any]) -> bytes:
        """Write a complete item, with all events of its stream."""
        events = self.begin() + self._close_text_item()
        payload = {**item, "id": item.get("id") or self._new_id(str(item.get("type")))}
        self._output.append(payload)
        index = len(self._output) - 1
        return events + b"".join(
            self._event(event_type, **content) for event_type, content in item_events(payload, index)
        )

    # ---------------------------------------------------------------------------------------------------- the ending
    def complete(
        self, usage: Mapping[str, Any] | None, *, incomplete_reason: str | None = None, **fields: Any
    ) -> bytes:
        """End the response.

        :param usage: token counts in the form of the Responses API; None if they are unknown.
        :param incomplete_reason: why the model stopped early: ``max_output_tokens`` or ``content_filter``; None if it
            did not.
        :param fields: further fields of the response object.
        """
        status = "incomplete" if incomplete_reason else "completed"
        if incomplete_reason:
            fields["incomplete_details"] = {"reason": incomplete_reason}
        return self.end(status, usage=dict(usage) if usage is not None else None, **fields)

    def fail(self, failure: Failure) -> bytes:
        """End the response with a failure."""
        error = {"code": failure.code or "server_error", "message": failure.message}
        return self.end("failed", error=error)

    def end(self, status: str, **fields: Any) -> bytes:
        """End the response with any status.

        :param status: ``completed``, ``incomplete`` or ``failed``.
        :param fields: further fields of the response object.
        """
        item_status = "completed" if status == "completed" else "incomplete"
        events = self.begin() + self._close_text_item(item_status)
        events += b"".join(self._close_call(key, item_status) for key in list(self._calls))
        self.response |= {**fields, "status": status, "output": self._output}
        return events + self._event(f"response.{status}", response=self.response)

    # ------------------------------------------------------------------------------------------------ items and parts
    def _append(self, kind: PartKind, delta: str) -> bytes:
        events = b""
        if self._text_item is None or self._text_item.kind is not kind:
            events = self._open_part(kind)
        item = self._text_item
        assert item
        item.deltas.append(delta)
        self._sequence_number = number = self._sequence_number + 1
        return events + b'%b%b,"sequence_number":%d}\n\n' % (item.delta_head, jsontext.dumps(delta), number - 1)

    def _open_part(self, kind: PartKind) -> bytes:
        """Open a part, in the open item if it has the right type, else in a new one."""
        events, location = self.begin(), kind.location
        if self._text_item and self._text_item.payload["type"] == location.item_type:
            events += self._close_part()
        else:
            events += self._close_text_item() + self._open_text_item(location.item_type)
        item = self._text_item
        assert item
        part: dict[str, Any] = {"type": location.part_type, location.text_field: ""}
        if kind is OUTPUT_TEXT:
            part |= {"annotations": [], "logprobs": []}
        parts = item.payload.setdefault(location.item_field, [])
        parts.append(part)
        item.kind, item.part_index, item.deltas = kind, len(parts) - 1, []
        item.delta_head = _delta_head(f"{kind.name}.delta", item, {location.index_field: item.part_index})
        return events + self._part_event(f"{kind.part_events}.added", item, part=part)

    def _close_part(self) -> bytes:
        item = self._text_item
        if item is None or item.kind is None:
            return b""
        kind, location, text = item.kind, item.kind.location, "".join(item.deltas)
        part = item.payload[location.item_field][item.part_index]
        part[location.text_field] = text
        extra: dict[str, Any] = {"logprobs": part["logprobs"]} if kind is OUTPUT_TEXT else {}
        events = self._part_event(f"{kind.name}.done", item, **{location.text_field: text}, **extra)
        events += self._part_event(f"{kind.part_events}.done", item, part=part)
        item.kind = None
        return events

    def _open_text_item(self, item_type: str, item_id: str | None = None) -> bytes:
        blank = {name: [] if isinstance(value, list) else value for name, value in _BLANK_ITEMS[item_type].items()}
        self._text_item, event = self._open_item({"id": "", **blank}, item_id)
        return event

    def _close_text_item(self, status: str = "completed") -> bytes:
        if self._text_item is None:
            return b""
        events, item = self._close_part(), self._text_item
        self._text_item = None
        return events + self._close_item(item, status)

    def _close_call(self, key: object, status: str) -> bytes:
        item = self._calls.pop(key)
        text, text_field = "".join(item.deltas), "input" if "input" in item.payload else "arguments"
        item.payload[text_field] = text
        name = {} if text_field == "input" else {"name": item.payload["name"]}
        event_type = f"response.{item.payload['type']}_{text_field}.done"
        address = {"item_id": item.payload["id"], "output_index": item.index}
        return self._event(event_type, **address, **{text_field: text}, **name) + self._close_item(item, status)

    def _open_item(self, payload: dict[str, Any], item_id: str | None) -> tuple[_OpenItem, bytes]:
        """Announce an item.

        :param payload: the item without its text; its ``id`` is replaced.
        """
        payload["id"] = item_id or self._new_id(payload["type"])
        payload["status"] = "in_progress"
        self._output.append(payload)
        item = _OpenItem(payload, len(self._output) - 1)
        events = self.begin()
        return item, events + self._event("response.output_item.added", output_index=item.index, item=payload)

    def _close_item(self, item: _OpenItem, status: str) -> bytes:
        item.payload["status"] = status
        return self._event("response.output_item.done", output_index=item.index, item=item.payload)

    def _new_id(self, item_type: str) -> str:
        return make_id(item_type, f"{self._id_suffix}_{len(self._output)}")

    # ------------------------------------------------------------------------------------------------------- encoding
    def _part_event(self, event_type: str, item: _OpenItem, **content: Any) -> bytes:
        assert item.kind
        address = {
            "item_id": item.payload["id"],
            "output_index": item.index,
            item.kind.location.index_field: item.part_index,
        }
        return self._event(event_type, **address, **content)

    def _event(self, event_type: str, **content: Any) -> bytes:
        number = self._sequence_number
        self._sequence_number = number + 1
        return sse.encode(event_type, jsontext.dumps({"type": event_type, **content, "sequence_number": number}))


def _delta_head(event_type: str, item: _OpenItem, address: Mapping[str, int] | None = None) -> bytes:
    """Return the bytes before the text in a delta event of ``item``. They are encoded once to make deltas cheap."""
    fields = {"type": event_type, "item_id": item.payload["id"], "output_index": item.index, **(address or {})}
    return sse.encode(event_type, jsontext.dumps(fields)).removesuffix(b"}\n\n") + b',"delta":'
