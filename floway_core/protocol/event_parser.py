"""Parse the JSON of server-sent events, many at a time."""

import itertools
import logging
import operator
import re
from collections.abc import Sequence
from typing import Any

import orjson

from floway_core.protocol import jsontext, sse
from floway_core.protocol.text_events import DELTA_EVENTS

log = logging.getLogger("floway.protocol")

UNPARSED_EVENT_BYTES = 2**20
"""Longer events whose content is not needed are not parsed: they contain images."""

END_MARK: dict[str, Any] = {"type": "[DONE]"}
"""Represents the event ``data: [DONE]``, which contains no JSON."""

_DATA_LINE = re.compile(rb"\ndata: ?(.*)")
"""It begins with fixed text: ``^`` would be tried at every byte."""
_TYPE_FIELD = re.compile(rb'"type": ?"([\w.]+)"')


_first_five, _first_six = operator.itemgetter(slice(5)), operator.itemgetter(slice(6))
_from_fifth = operator.itemgetter(slice(5, None))

_ANNOUNCEMENTS = (b' {"type":"response.created",', b' {"type":"response.in_progress",')
"""The usual beginnings of the data of events that only show the response object before it has any output."""


def parse_events(
    block: bytes, events: Sequence[bytes] = (), announcements: list[bytes] | None = None
) -> list[dict[str, Any] | None]:
    """Parse complete events.

    :param block: one event or more, without a part of another.
    :param events: the same as single events, if they have been split already.
    :param announcements: receives the data of the first events if they only announce the response, as far as they are
        recognised without parsing. Then they are not in the result.
    :returns: the JSON object of each event, with its ``type`` (None if neither the object nor the event names one).
        ``END_MARK`` represents ``[DONE]``. None represents any other event without a JSON object, such as a comment,
        and a long event that is not parsed.
    """
    is_large = len(block) >= UNPARSED_EVENT_BYTES
    data = _find_data(block) if not is_large and sse.CR not in block else []
    # Usually each event is one line of data. Then one call of the JSON parser reads all of them.
    if data:
        announcing = list(itertools.takewhile(_is_announcement, data)) if announcements is not None else []
        data = data[len(announcing) :]
        contents: list[dict[str, Any] | None]
        try:
            contents = orjson.loads(b"[%b]" % b",".join(data))
        except orjson.JSONDecodeError:
            contents = []
        if len(contents) == len(data) and (not data or _have_types(contents)) and _is_shallow(block, contents):
            if announcements is not None:
                announcements += announcing
            return contents
    return [_parse_event(event) for event in events or sse.split(block)]


def _find_data(block: bytes) -> list[bytes]:
    """Return the data of each event, if each has one line of data; else an empty list."""
    # Most upstreams send the type in one line, and the data in the next.
    name, _, single = block.partition(b"\ndata:")
    is_single = single.find(b"\n") == len(single) - 2 and single.endswith(b"\n\n")
    if is_single and name.startswith(b"event:") and sse.LF not in name:
        return [single]
    lines = block.split(b"\n")
    if len(lines) % 3 == 1 and not (lines[-1] or any(lines[2::3])):
        data = lines[1::3]
        if set(map(_first_six, lines[:-1:3])) == {b"event:"} and set(map(_first_five, data)) == {b"data:"}:
            return list(map(_from_fifth, data))
    *events, rest = block.split(b"\n\n")
    try:  # a second line of data in one event must not make up for another event without any
        return [] if rest else [data for (data,) in map(_DATA_LINE.findall, map(b"\n".__add__, events))]
    except ValueError:
        return []


def _is_announcement(data: bytes) -> bool:
    return data.startswith(_ANNOUNCEMENTS)


def _have_types(contents: list[Any]) -> bool:
    """Return whether all are objects whose ``type`` is a text."""
    try:
        return set(map(type, map(_get_type, contents))) == {str}
    except (KeyError, TypeError):  # TypeError: no object
        return False


_get_type = operator.itemgetter("type")


def _is_shallow(block: bytes, contents: Sequence[Any]) -> bool:
    """Return whether no event is nested too deeply to be encoded again."""
    if not jsontext.may_be_too_deep(block) or not jsontext.is_too_deep(contents):
        return True
    return not any(jsontext.is_too_deep(content) for content in contents)


def parse_data(data: bytes) -> dict[str, Any] | None:
    """Parse the data of one event; None if it is not a JSON object."""
    try:
        content = jsontext.loads(data)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _parse_event(event: bytes) -> dict[str, Any] | None:
    if len(event) >= UNPARSED_EVENT_BYTES and _needs_no_parsing(event):
        return None
    name, data = sse.parse(event)
    if data.strip() == b"[DONE]":
        return END_MARK
    content = parse_data(data)
    if content is None:
        if data.strip():
            # Its content is not logged, because it may belong to the conversation.
            log.debug("An event %r with %d bytes of data is not a JSON object; relayed unchanged.", name, len(data))
        return None
    if not isinstance(content.get("type"), str):
        content["type"] = name
    return content


def _needs_no_parsing(event: bytes) -> bool:
    """Return whether a long event is a delta or an image that belongs to no text."""
    match = _TYPE_FIELD.search(event, 0, 4096)
    event_type = match[1].decode() if match else ""
    return event_type.endswith((".delta", ".partial_image")) and event_type not in DELTA_EVENTS
