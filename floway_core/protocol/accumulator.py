"""Following the events of one answer: what the client is to see of them, and the response that they make."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from floway_core.protocol import jsontext, sse
from floway_core.protocol.blocks import parse_events
from floway_core.protocol.failures import NO_REASON, Failure, read_failure
from floway_core.protocol.output import DELTAS, PARTS, TEXTS, OutputItem, OutputItems, Place
from floway_core.protocol.responses import COMPLETED, FAILED, INCOMPLETE, blank_response, says_error
from floway_core.protocol.synthesis import item_events
from floway_core.protocol.usage import complete_usage
from floway_core.protocol.versions import in_form, is_shell

# What upstreams call the end of a response; most have only the first three.
_ENDS = {
    COMPLETED: COMPLETED,
    INCOMPLETE: INCOMPLETE,
    FAILED: FAILED,
    "response.done": COMPLETED,
    "response.cancelled": FAILED,
    "response.canceled": FAILED,
}
_END_OF_STATUS = {"incomplete": INCOMPLETE, "failed": FAILED, "cancelled": FAILED, "canceled": FAILED}


class _NewId(NamedTuple):
    """An event in which nothing but the id of the response changes, so that it need not be written anew."""

    old: bytes
    new: bytes

    def written_into(self, event: bytes) -> bytes | None:
        """None where some of what looks like the id may be something else."""
        return event.replace(self.old, self.new) if event.count(self.old) == 1 else None


class _DeltaTarget:
    """Where the delta of an event went, because most of the next ones go there, too."""

    __slots__ = ("_index", "_index_name", "_item_id", "_part", "_text", "_type", "sequence_number")

    def __init__(self, content: Mapping[str, Any], index_name: str, text: bytearray) -> None:
        self._type, self._item_id, self._index = content["type"], content.get("item_id"), content.get("output_index")
        self._index_name, self._part = index_name, content.get(index_name)
        self._text = text
        self.sequence_number = -1
        """The last one."""

    def takes(self, content: Mapping[str, Any]) -> bool:
        """Add the delta of ``content`` if it belongs here."""
        if (
            content["type"] != self._type
            or content.get("item_id") != self._item_id
            or content.get("output_index") != self._index
            or content.get(self._index_name) != self._part
        ):
            return False
        delta, number = content.get("delta"), content.get("sequence_number")
        if isinstance(delta, str):
            try:
                self._text += delta.encode()
            except UnicodeEncodeError:  # half a character; the other half comes with the next delta
                self._text += delta.encode("utf-8", "surrogatepass")
        if isinstance(number, int):
            self.sequence_number = number
        return True


class ResponseAccumulator:
    """The events of one answer so far.

    ``add_events`` or ``add_response`` takes what the upstream sends; ``fail`` ends the answer in its place.
    """

    def __init__(
        self,
        overrides: Mapping[str, Any],
        model: str = "",
        *,
        rewrite: bool = True,
        present: Callable[[Failure], Failure] = lambda failure: failure,
    ) -> None:
        """:param overrides: fields of the response object that the gateway knows better than the upstream, like ``id``.
        :param model: the model of the request, for a failure before the upstream has sent anything.
        :param rewrite: whether a client sees the events; else only the response counts.
        :param present: makes of an upstream's failure what the client may see of it.
        """
        self.response: dict[str, Any] = {}
        """The response object as it was sent last; complete, with its output, after the terminal event."""
        self.terminal: str | None = None
        """The type of the terminal event, once it came."""
        self.terminal_event = b""
        """That event as the client is to see it."""
        self.failure: Failure | None = None
        """What an ``error`` event or the terminal one gave as the reason of a failure."""
        self.saw_done = False
        """Whether the upstream has sent ``[DONE]``."""
        self._overrides = overrides
        self._model = model
        self._rewrite = rewrite
        self._present = present
        self._items = OutputItems(str(overrides.get("id") or ""))
        self._sequence_number = -1
        self._target: _DeltaTarget | None = None
        self._error_sent = False
        self._inserted = 0
        """How many events the client gets more than the upstream sent: the numbers of those behind them shift."""

    @property
    def has_content(self) -> bool:
        """Whether any of the output has come."""
        return bool(self._items)

    def add_events(self, block: bytes) -> bytes:
        """Take complete events, up to and including a terminal one, which is left in ``terminal_event``.

        :returns: what the client is to see of those before it. Events are unchanged, but for response objects, for ids
            and numbers that are not unique, and for errors in a form that clients do not know. ``[DONE]`` is left out.
        """
        raw: list[bytes] = []
        for position, content in enumerate(parse_events(block)):
            if content is not None and (target := self._target) and target.takes(content):
                continue
            event = self._add(content) if content is not None else None
            if event is None and content is not None:
                continue
            if not raw:
                raw = sse.split(block)
            if content is None:
                if sse.parse(raw[position])[1].strip() == b"[DONE]":
                    raw[position], self.saw_done = b"", True
            elif isinstance(event, _NewId):
                whole = event.written_into(raw[position]) or self._encode_as(str(content["type"]), content)
                raw[position] = sse.replace_event(raw[position], whole)
            elif event is not None:
                raw[position] = sse.replace_event(raw[position], event)
            if self.terminal:
                self.terminal_event = raw[position]
                return b"".join(raw[:position])
        return b"".join(raw) if raw else block

    def add_response(self, response: dict[str, Any]) -> None:
        """Take an answer that came as one complete response object. One without a status counts as completed."""
        self._end(COMPLETED, {**response})

    def fail(self, code: str, message: str) -> bytes:
        """The events that end a stream that has failed: ``error``, unless one was sent, and ``response.failed``.

        The error stands in both places where clients look: at the top level (the OpenAI specification) and under
        ``error`` (the OpenAI SDKs raise from there). A reason that the upstream has given takes precedence.
        """
        failure = self._present(self.failure) if self.failure else Failure(message, code, "server_error")
        events = b"" if self._error_sent else self._error_event(failure)
        response = {**blank_response(self._model), **self.response}
        self._correct(response)
        response["status"] = "failed"
        response["output"] = self._output([], "incomplete")
        response["error"] = {"code": failure.code or code, "message": failure.message}
        self.response, self.terminal = response, FAILED
        return events + self._encode(FAILED, response=response)

    # --------------------------------------------------------------------------------------------------- one event
    def _add(self, content: dict[str, Any]) -> bytes | _NewId | None:
        """The event as the client is to see it; None for as it is."""
        if self._target:
            self._sequence_number = max(self._sequence_number, self._target.sequence_number)
            self._target = None
        inserted = self._inserted
        if inserted and isinstance(content.get("sequence_number"), int):
            content["sequence_number"] += inserted
        if isinstance(number := content.get("sequence_number"), int):
            self._sequence_number = max(self._sequence_number, number)
        event = self._follow(content)
        if inserted and isinstance(number, int) and not isinstance(event, bytes):
            return self._encode_as(str(content.get("type")), content)
        return event

    def _follow(self, content: dict[str, Any]) -> bytes | _NewId | None:
        kind: str | None = content.get("type")
        if place := DELTAS.get(kind or ""):
            return self._add_delta(content, place)
        if kind in TEXTS or kind in PARTS:
            return self._add_part(kind, content)
        if kind in ("response.output_item.added", "response.output_item.done"):
            return self._add_item(kind, content)
        end = _ENDS.get(kind or "") if not isinstance(content.get("response"), dict) else None
        if end and (self._items or end == FAILED):  # then it is what was told of it before
            told = {"error": content.get("error"), "status": None} if kind != COMPLETED else {"status": None}
            content["response"] = {**blank_response(self._model), **self.response, **told}
        if isinstance(response := content.get("response"), dict) and str(kind).startswith("response."):
            return self._add_response_object(str(kind), content, response)
        if kind in ("error", "response.error") or (content.get("error") and not str(kind).startswith("response.")):
            return self._add_error(content)
        if kind is None and (failure := read_failure(content)):
            return self._add_error(content, failure)
        return None

    def _add_delta(self, content: dict[str, Any], place: Place) -> bytes | None:
        item = self._items.of_event(content, place)
        if item is None:
            self._items.add_loose(place, content.get("delta"))
            return None
        missing = self._announcement(content, item, place)
        event = self._readdressed(content, item, missing, place.index_name)
        if not item.closed:
            part = item.part(place, content.get(place.index_name))
            target = _DeltaTarget(content, place.index_name, part.text)
            target.takes(content)
            self._target = target if event is None and not self._inserted else None
        return event

    def _add_part(self, kind: str, content: dict[str, Any]) -> bytes | None:
        place = TEXTS.get(kind) or PARTS[kind]
        item = self._items.of_event(content, place)
        if item is None:
            return None
        missing = self._announcement(content, item, place, is_part=kind in PARTS)
        if not item.closed:
            part = item.part(place, content.get(place.index_name))
            if kind in PARTS and isinstance(content.get("part"), dict):
                part.payload = content["part"]
            elif isinstance(text := content.get(place.text), str):
                whole = text.encode("utf-8", "surrogatepass")
                if len(whole) >= len(part.text):  # some end a part without its text
                    part.text[:] = whole
            if isinstance(name := content.get("name"), str) and not place.index_name:
                item.payload.setdefault("name", name)
        return self._readdressed(content, item, missing, place.index_name)

    def _add_item(self, kind: str, content: dict[str, Any]) -> bytes | None:
        payload, index = content.get("item"), content.get("output_index")
        if not isinstance(payload, dict):
            return None
        if kind == "response.output_item.added":
            item = self._items.add(payload, index)
            shown = {**in_form(payload), "id": item.id}
            if item.announced and self._rewrite:
                return b""
            item.announced = True
        else:
            item = self._items.close(payload, index)
            if self._rewrite and is_shell(item.payload):  # the final response may have the rest
                item.closed = False
                return b""
            shown = item.whole("completed") or payload
        if shown != payload and self._rewrite:
            return self._encode_as(kind, {**content, "output_index": item.index, "item": shown})
        return self._readdressed(content, item)

    def _announcement(self, content: dict[str, Any], item: OutputItem, place: Place, is_part: bool = False) -> bytes:
        """The events that a client needs before one about a part of an item, and that the upstream left out."""
        if not self._rewrite or item.closed:
            return b""
        events: list[tuple[str, dict[str, Any]]] = []
        if not item.announced:
            item.announced = True
            begun = {"status": "in_progress", **item.payload, "id": item.id}
            events.append(("response.output_item.added", {"item": begun}))
        number = content.get(place.index_name)
        if place.part_type and place.field == "content" and place.item_type == "message" and not is_part:
            if not item.has_part(place, number):
                empty: dict[str, Any] = {"type": place.part_type, place.text: ""}
                part = {**empty, "annotations": []} if place.part_type == "output_text" else empty
                at = {"item_id": item.id, "content_index": number if isinstance(number, int) else 0}
                events.append(("response.content_part.added", {**at, "part": part}))
        return b"".join(self._insert(kind, content, {"output_index": item.index, **more}) for kind, more in events)

    def _insert(self, kind: str, before: dict[str, Any], content: dict[str, Any]) -> bytes:
        """An event of the gateway's own in front of one of the upstream's, whose number it takes."""
        if not isinstance(number := before.get("sequence_number"), int):
            return self._encode_as(kind, {"type": kind, **content})
        before["sequence_number"] = self._sequence_number = number + 1
        self._inserted += 1
        return self._encode_as(kind, {"type": kind, "sequence_number": number, **content})

    def _readdressed(
        self, content: dict[str, Any], item: OutputItem, before: bytes = b"", index_name: str = ""
    ) -> bytes | None:
        """The event with the id and the number that the client knows its item by; None where it has them.

        :param before: other events that go in front of it.
        :param index_name: the field that says which part of the item it is about.
        """
        about_item = "item" in content
        same = content.get("output_index") == item.index and type(content.get("output_index")) is int
        same = same and (about_item or content.get("item_id") == item.id)
        names_part = not index_name or isinstance(content.get(index_name), int)
        if not self._rewrite or (same and names_part and not before):
            return None
        address: dict[str, Any] = (
            {"output_index": item.index} if about_item else {"item_id": item.id, "output_index": item.index}
        )
        address |= {} if names_part else {index_name: 0}
        return before + self._encode_as(str(content["type"]), {**content, **address})

    def _add_error(self, content: dict[str, Any], failure: Failure | None = None) -> bytes | None:
        self.failure = failure or read_failure(content) or Failure(NO_REASON, "upstream_failed")
        shown = self._present(self.failure)
        self._error_sent = True
        error = content.get("error")
        told = error if isinstance(error, dict) else content
        if shown is self.failure and content.get("type") == "error" and isinstance(told.get("message"), str):
            return None
        return self._error_event(shown, content.get("sequence_number"))

    def _add_response_object(
        self, kind: str, content: dict[str, Any], response: dict[str, Any]
    ) -> bytes | _NewId | None:
        before, number = dict(response), self._sequence_number
        missing: list[bytes] = []
        if kind in _ENDS:
            missing = self._end(_ENDS[kind], response)
        else:
            self.response = response
            self._correct(response)
        if not self._rewrite:
            return b"" if self.terminal else None
        content["type"] = self.terminal or kind
        if missing:
            content["sequence_number"] = number + len(missing) + 1
        elif content["type"] == kind and isinstance(before.get("id"), str) and isinstance(response.get("id"), str):
            new_id = response["id"]
            if {**before, "id": new_id} == response:
                return _NewId(jsontext.dumps(before["id"]), jsontext.dumps(new_id))
        return b"".join(missing) + self._encode_as(str(content["type"]), content)

    # ------------------------------------------------------------------------------------------------------ the end
    def _end(self, end: str, response: dict[str, Any]) -> list[bytes]:
        """Complete ``response``.

        :returns: events that are missing: for items that only the final response has, or that were never closed.
        """
        status = response.get("status")
        end = _END_OF_STATUS.get(status, end) if isinstance(status, str) and end != FAILED else end
        output = response.get("output")
        final = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
        if end == FAILED or (says_error(response) and not final and not self._items):
            end = FAILED
            self._note_failure(response)
        status = end.removeprefix("response.")
        self._correct(response)
        response["status"] = status
        items = self._items.complete(final)
        unfinished = "incomplete" if end != COMPLETED else "completed"
        wholes = [(item, whole) for item in items if (whole := item.whole(unfinished)) is not None]
        response["output"] = [whole for _, whole in wholes]
        self.response, self.terminal = response, end
        if end == FAILED or not self._rewrite:
            return []
        return [event for item, whole in wholes if not item.closed for event in self._missing_events(item, whole)]

    def _correct(self, response: dict[str, Any]) -> None:
        """Put in what the gateway knows better. A null takes the place of a value, but not of a missing field."""
        for name, value in self._overrides.items():
            if value is not None or response.get(name):
                response[name] = value
        if response.get("usage") is not None:
            response["usage"] = complete_usage(response["usage"])

    def _note_failure(self, response: dict[str, Any]) -> None:
        error = response.get("error")
        failure = read_failure({"error": error}) if error else None
        self.failure = failure or self.failure
        if self.failure is None:
            return
        shown = self._present(self.failure)
        well_formed = isinstance(error, dict) and isinstance(error.get("message"), str) and shown is self.failure
        if not well_formed:
            response["error"] = {"code": shown.code or "server_error", "message": shown.message}

    def _missing_events(self, item: OutputItem, whole: dict[str, Any]) -> list[bytes]:
        item.closed = True
        events = list(item_events(whole, item.index))
        if item.announced:
            events = events[-1:]
        return [self._encode(kind, **content) for kind, content in events]

    def _output(self, final: list[dict[str, Any]], status: str) -> list[dict[str, Any]]:
        wholes = [item.whole(status) for item in self._items.complete(final)]
        return [whole for whole in wholes if whole is not None]

    # ------------------------------------------------------------------------------------------------------ writing
    def _error_event(self, failure: Failure, number: object = None) -> bytes:
        self._error_sent = True
        error = failure.error_object()
        usual = {"code": error["code"], "message": error["message"], "param": error["param"]}
        if isinstance(number, int):
            return self._encode_as("error", {"type": "error", **usual, "sequence_number": number, "error": error})
        return self._encode("error", **usual, error=error)

    def _encode(self, kind: str, **content: Any) -> bytes:
        """An event of the gateway's own."""
        if self._target:
            self._sequence_number = max(self._sequence_number, self._target.sequence_number)
        self._sequence_number += 1
        return self._encode_as(kind, {"type": kind, "sequence_number": self._sequence_number, **content})

    def _encode_as(self, kind: str, content: Mapping[str, Any]) -> bytes:
        return sse.encode(kind, jsontext.dumps(content))
