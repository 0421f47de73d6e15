"""Builders of scripted responses: output items, and replies with such items."""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .responses import challenge_page

JSON = Any
ReplyHeaders = tuple[tuple[str, str | None], ...]
HeadersArgument = Mapping[str, str | None] | Iterable[tuple[str, str | None]]


@dataclass(frozen=True)
class OutputItem:
    """An output item as `response.output_item.done` shows it.

    chunks: in how many delta events its text comes; delay: seconds before each of its events.
    """

    body: JSON
    chunks: int = 1
    delay: float = 0.0


@dataclass(frozen=True)
class Reply:
    """A 200 event stream; see reply()."""

    items: tuple[OutputItem, ...]
    total_tokens: int | None = None
    cached_tokens: int = 0
    headers: ReplyHeaders = ()
    cut_after: int | None = None
    clean_cut: bool = False
    hang_after: int | None = None
    fail: JSON = None
    incomplete: str | None = None
    event_delay: float = 0.0
    empty_output: bool = True


@dataclass(frozen=True)
class Refusal:
    """A response that is not an event stream; a str body is sent unchanged, anything else as JSON."""

    status: int
    body: JSON
    headers: ReplyHeaders = ()


@dataclass(frozen=True)
class Hang:
    """No response until the client disconnects, before or after the response headers."""

    before_headers: bool = True


@dataclass(frozen=True)
class Messages:
    """Messages of a WebSocket as they are.

    then: `end` (nothing), `cut` (the connection breaks), `hang`, or the code of a close frame; raw: bytes behind the
    messages that need be no frame.
    """

    messages: tuple[bytes, ...]
    then: str | int = "end"
    raw: bytes = b""


Scripted = Reply | Refusal | Hang | Messages


def reply(
    *items: OutputItem,
    total_tokens: int | None = None,
    cached_tokens: int = 0,
    headers: HeadersArgument = (),
    cut_after: int | None = None,
    clean_cut: bool = False,
    hang_after: int | None = None,
    fail: JSON = None,
    incomplete: str | None = None,
    event_delay: float = 0.0,
    empty_output: bool = True,
) -> Reply:
    """A 200 event stream with these output items.

    total_tokens: the usage to report (None: estimated); headers: added to the usual ones or replacing them, None
    removes one; cut_after: the connection breaks after so many events (clean_cut: the body ends properly instead);
    hang_after: silence after so many events; fail: ends with response.failed and this error object; incomplete: ends
    with response.incomplete for this reason; event_delay: seconds before each event; empty_output: the terminal
    event's `output` is [], as the backend has it.
    """
    return Reply(
        items,
        total_tokens,
        cached_tokens,
        pairs(headers),
        cut_after,
        clean_cut,
        hang_after,
        fail,
        incomplete,
        event_delay,
        empty_output,
    )


def refusal(status: int, body: JSON, headers: HeadersArgument = ()) -> Refusal:
    """A complete response with this status; body: JSON, or a str that is sent unchanged."""
    return Refusal(status, body, pairs(headers))


def html_403() -> Refusal:
    """The edge's challenge page."""
    page = challenge_page("scripted")
    return Refusal(page.status, page.body.decode(), page.headers)


def hang(before_headers: bool = True) -> Hang:
    """No response until the client disconnects or the simulator stops."""
    return Hang(before_headers)


def messages(*events: JSON, then: str | int = "end", raw: bytes = b"") -> Messages:
    """Messages of a WebSocket, JSON or bytes that are sent unchanged; see Messages for what follows."""
    return Messages(
        tuple(one if isinstance(one, bytes) else json.dumps(one, separators=(",", ":")).encode() for one in events),
        then,
        raw,
    )


def text(content: str = "pong", chunks: int = 1, delay: float = 0.0) -> OutputItem:
    """An assistant message, in `chunks` deltas and with `delay` seconds before each event."""
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": content}
    body = {"id": item_id("msg"), "type": "message", "status": "completed", "content": [part], "role": "assistant"}
    return OutputItem(body, chunks, delay)


def reasoning(
    summary: str | None = None, encrypted_content: str | None = None, chunks: int = 1, delay: float = 0.0
) -> OutputItem:
    """A reasoning item, with a summary part if there is a `summary`; its content is always encrypted."""
    parts = [] if summary is None else [{"type": "summary_text", "text": summary}]
    body = {
        "id": item_id("rs"),
        "type": "reasoning",
        "encrypted_content": encrypted_content or sealed(),
        "summary": parts,
    }
    return OutputItem(body, chunks, delay)


def function_call(
    name: str, arguments: JSON, namespace: str | None = None, chunks: int = 1, delay: float = 0.0
) -> OutputItem:
    """A function call; arguments: the JSON text, or a value to be written as JSON."""
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, separators=(",", ":"))
    body = {
        "id": item_id("fc"),
        "type": "function_call",
        "status": "completed",
        "arguments": written,
        "call_id": call_id(),
        "name": name,
        **({"namespace": namespace} if namespace else {}),
    }
    return OutputItem(body, chunks, delay)


def custom_tool_call(name: str, input: str, chunks: int = 1, delay: float = 0.0) -> OutputItem:
    """A call of a freeform tool."""
    body = {
        "id": item_id("ctc"),
        "type": "custom_tool_call",
        "status": "completed",
        "call_id": call_id(),
        "input": input,
        "name": name,
    }
    return OutputItem(body, chunks, delay)


def compaction(encrypted_content: str | None = None, delay: float = 0.0) -> OutputItem:
    """A compaction item, the only output of a compaction dispatch."""
    body = {"id": item_id("cmp"), "type": "compaction", "encrypted_content": encrypted_content or sealed()}
    return OutputItem(body, delay=delay)


def item(body: JSON, delay: float = 0.0) -> OutputItem:
    """Any other output item; it gets one added and one done event."""
    return OutputItem(body, delay=delay)


def pairs(headers: HeadersArgument) -> ReplyHeaders:
    """Headers as a tuple of pairs."""
    return tuple(headers.items()) if isinstance(headers, Mapping) else tuple((name, value) for name, value in headers)


def item_id(prefix: str) -> str:
    """A new item id in the backend's form."""
    return f"{prefix}_{secrets.token_hex(25)}"


def call_id() -> str:
    """A new call id in the backend's form."""
    return f"call_{secrets.token_urlsafe(18)}"


def sealed() -> str:
    """An opaque encrypted_content."""
    return "gAAAAAB" + secrets.token_urlsafe(120)
