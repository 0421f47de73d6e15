"""Assemble the calls in a chat server's stream. Servers differ in the order of deltas and the fields that they send."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from floway_chat.requests.tools import Tool, ToolTable, unwrap_input
from floway_core.protocol import jsontext
from floway_core.protocol.response_writer import ResponseEventWriter


@dataclass
class _Call:
    key: int
    """Its number in the answer."""
    id: str
    """The server's; empty if it has sent none."""
    index: Any
    """The server's."""
    name: str = ""
    tool: Tool | None = None
    """None until its name has arrived. Then the call is announced."""
    chunks: list[str] = field(default_factory=list)
    """Its arguments so far."""

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are a complete JSON value. Then further arguments belong to another call."""
        try:
            jsontext.loads("".join(self.chunks).encode("utf-8", "surrogatepass"))
        except ValueError:
            return False
        return True


class ToolCalls:
    """The calls of one answer.

    Some servers repeat ids or omit them, omit the index or reuse it for the next call, and send arguments in chunks, at
    once or as an object.
    """

    def __init__(self, writer: ResponseEventWriter, tools: ToolTable, seed: str) -> None:
        """:param seed: calls without an id get one that is derived from it."""
        self._writer = writer
        self._tools = tools
        self._seed = seed
        self._open: list[_Call] = []
        self._count = 0

    def feed(self, entries: Iterable[Mapping[str, Any]]) -> bytes:
        """Add the result of ``read_entries``."""
        return b"".join(map(self._add, entries))

    def close(self) -> bytes:
        """Close all calls; their arguments are complete."""
        calls, self._open = self._open, []
        return b"".join(self._close(call) for call in calls)

    def _add(self, delta: Mapping[str, Any]) -> bytes:
        inner = delta.get("custom") if isinstance(delta.get("custom"), dict) else delta.get("function", {})
        inner = inner if isinstance(inner, dict) else {}
        call_id, name = _string(delta.get("id")), _string(inner.get("name"))
        text = _arguments(inner.get("input") if "input" in inner else inner.get("arguments"))
        call = self._find(delta.get("index"), call_id, name, text)
        if call is None:
            if not (name or call_id):
                return b""
            call = _Call(self._count, call_id, delta.get("index"))
            self._count += 1
            self._open.append(call)
        if call.tool is None:
            call.id, call.name = call.id or call_id, call.name or name
        if text:
            call.chunks.append(text)
        if call.tool is None:
            return self._announce(call)
        return b"" if not text or call.tool.is_wrapped else self._writer.call_delta(call.key, text)

    def _find(self, index: Any, call_id: str, name: str, text: str) -> _Call | None:
        """Return the call that a delta belongs to; None if it starts another one."""
        for call in reversed(self._open):
            if call_id and call.id == call_id:
                is_next = name and index != call.index and call.chunks
                return None if is_next else call
        for call in reversed(self._open):
            if index is not None and call.index == index:
                return None if self._begins_next(call, call_id, name, text) else call
        if index is not None or call_id or not self._open:
            return None
        last = self._open[-1]
        return None if name and self._begins_next(last, call_id, name, text) else last

    @staticmethod
    def _begins_next(call: _Call, call_id: str, name: str, text: str) -> bool:
        """Return whether a delta at the position of ``call`` begins the next one.

        A call has its name only once. A new id alone does not start a call: some servers invent one for each delta.
        """
        if call_id and call.id and call_id != call.id:
            return bool(name)
        return bool(name and call.name) and (name != call.name or (bool(text) and call.is_complete))

    def _announce(self, call: _Call) -> bytes:
        """Announce a call as soon as its name is known, with the arguments so far."""
        if not call.name:
            return b""
        call.tool = self._tools.find(call.name)
        call_id = call.id or f"call_{hashlib.sha256(f'{self._seed} {call.key}'.encode()).hexdigest()[:24]}"
        fields = {"namespace": call.tool.namespace} if call.tool.namespace else {}
        opening = self._writer.open_call(call.key, call_id, call.tool.name, custom=call.tool.is_custom, **fields)
        text = "".join(call.chunks)
        return opening + (self._writer.call_delta(call.key, text) if text and not call.tool.is_wrapped else b"")

    def _close(self, call: _Call) -> bytes:
        if call.tool is None:
            return b""
        text, delta = "".join(call.chunks), b""
        if call.tool.is_wrapped:
            delta = self._writer.call_delta(call.key, unwrap_input(text))
        elif not text and not call.tool.is_custom:
            delta = self._writer.call_delta(call.key, "{}")
        return delta + self._writer.close_call(call.key)


def read_entries(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the non-empty entries of ``tool_calls`` in a delta or a message, or the deprecated ``function_call``."""
    calls, function_call = message.get("tool_calls"), message.get("function_call")
    if not calls:
        calls = [{"index": 0, "function": function_call}] if function_call else []
    return [entry for entry in (calls if isinstance(calls, list) else [calls]) if _has_content(entry)]


def _has_content(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    inner = [value for kind in ("function", "custom") if isinstance(value := entry.get(kind), dict)]
    return bool(entry.get("id")) or any(any(value.values()) for value in inner)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: Any) -> str:
    """Return arguments as text; some servers send them as an object."""
    if isinstance(value, str):
        return value
    return "" if value is None else jsontext.dumps(value).decode("utf-8", "surrogatepass")
