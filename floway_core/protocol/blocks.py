"""Parsing blocks of events: many at once where they are plain, and long ones that nobody needs not at all."""

import re
from typing import Any

import orjson

from floway_core.protocol import jsontext, sse
from floway_core.protocol.output import DELTAS

UNREAD_EVENT_BYTES = 2**20
"""An event that is longer, and whose content is not needed, is not parsed: it holds an image."""

_DATA = re.compile(rb"^data: ?(.*)$", re.MULTILINE)
_TYPE = re.compile(rb'"type": ?"([\w.]+)"')


def parse_events(block: bytes) -> list[dict[str, Any] | None]:
    """The content of each event, with its ``type``; None for what is no JSON object, such as a comment."""
    data = _DATA.findall(block)
    if len(block) < UNREAD_EVENT_BYTES and len(data) == block.count(b"\n\n") and b"\r" not in block:
        contents: list[dict[str, Any] | None]
        try:
            contents = orjson.loads(b"[%b]" % b",".join(data))
        except orjson.JSONDecodeError:
            contents = []
        if len(contents) == len(data) and all(map(_is_plain, contents)):
            return contents
    return [_parse_event(event) for event in sse.split(block)]


def _is_plain(content: Any) -> bool:
    """Whether an event has a type, and is not nested more deeply than what is written anew may be."""
    if not isinstance(content, dict) or not isinstance(kind := content.get("type"), str):
        return False
    return kind in DELTAS or not jsontext.is_too_deep(content)


def _parse_event(event: bytes) -> dict[str, Any] | None:
    if len(event) >= UNREAD_EVENT_BYTES and _is_passed_unread(event):
        return None
    name, data = sse.parse(event)
    try:
        content = jsontext.loads(data)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    if not isinstance(content.get("type"), str):
        content["type"] = name
    return content


def _is_passed_unread(event: bytes) -> bool:
    """Whether nothing depends on what is in a long event."""
    found = _TYPE.search(event, 0, 4096)
    kind = found[1].decode() if found else ""
    return kind.endswith((".delta", ".partial_image")) and kind not in DELTAS
