"""Remove details of the operator's account from upstream responses.

Only clients whose API key shows the account see these headers, fields and events. A provider declares them in
``Provider.account_details``. They are removed before anything else reads the response, so that streams, JSON responses
and stored data agree. They are never stored.
"""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from floway_core.contexts import AttemptContext, ClientConnection
from floway_core.protocol import jsontext, sse
from floway_core.provider import AccountDetails, ErrorResponse, Provider, ResponseBody, UpstreamResponse
from floway_core.upstream.body_splitter import BYTE_ORDER_MARK, BodySplitter


# ---------------------------------------------------------------------------------------------------- entry points
def filter_response(provider: Provider, context: AttemptContext, response: UpstreamResponse) -> UpstreamResponse:
    """Return ``response`` without the details that its client must not see; the same object if there are none."""
    details = _details_to_hide(provider, context)
    if details is None:
        return response
    body = FilteredBody(response.body, details) if details.in_bodies else response.body
    return UpstreamResponse(response.status, _visible_headers(details, response.headers), body, response.dialect)


def filter_error_response(provider: Provider, context: AttemptContext, response: ErrorResponse) -> ErrorResponse:
    """Filter a response that is not 2xx in the same way."""
    details = _details_to_hide(provider, context)
    if details is None:
        return response
    content = _filter_json(details, response.content) if details.error_fields else response.content
    return replace(response, headers=_visible_headers(details, response.headers), content=content)


def without_account_fields(provider: Provider, response: dict[str, Any]) -> dict[str, Any]:
    """Return the response object to store. It never shows the account, because the key's setting may change later."""
    names = [name for name in provider.account_details.response_fields if response.get(name) is not None]
    return {**response, **dict.fromkeys(names)} if names else response


def _details_to_hide(provider: Provider, context: AttemptContext) -> AccountDetails | None:
    details = provider.account_details
    return None if context.request.api_key.shows_account or details == NO_DETAILS else details


NO_DETAILS = AccountDetails()


# ------------------------------------------------------------------------------------------------------------ headers
def _visible_headers(details: AccountDetails, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if not details.covers_header(name)]


# -------------------------------------------------------------------------------------------------------------- bodies
class FilteredBody(ResponseBody):
    """A body without account details.

    A stream is returned in complete events; events without account details are returned byte for byte. A document, such
    as a JSON response, is returned when it is complete, whatever the body is declared as.
    """

    def __init__(self, inner: ResponseBody, details: AccountDetails) -> None:
        self._inner = inner
        self._filter = EventFilter(details)
        self._ended = False

    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        deadline = time.monotonic() + timeout if timeout else 0.0
        while not self._ended:
            data = self._inner.read(max(0.0, deadline - time.monotonic()) if timeout else 0, client)
            if data is None:
                return None
            self._ended = not data
            if visible := self._filter.feed(data) if data else self._filter.finish():
                return visible
        return b""

    def fileno(self) -> int | None:
        return self._inner.fileno()

    def close(self) -> None:
        self._inner.close()


_NULL = re.compile(rb"\s*:\s*null")
_ESCAPE = b"\\u00"
"""The beginning of an escaped ASCII character. JSON allows this for all of them, so also in names."""
_ESCAPED_LETTER = re.compile(rb"\\u00(?:2[DEde]|3\d|[46][1-9A-Fa-f]|5[\dAFaf]|7[\dAa])")
"""An escaped character that names have: a letter, a digit, ``-``, ``.`` or ``_``."""


def _find_stated(needle: bytes, block: bytes, position: int) -> int:
    """Return the position of the first needle that is more than the name of a null; -1 if there is none.

    Every response object has such names.

    :param position: that of the first needle; -1 if there is none.
    """
    if needle == _ESCAPE and position >= 0:
        letter = _ESCAPED_LETTER.search(block, position)
        return letter.start() if letter else -1
    while position >= 0 and needle.startswith(b'"') and _NULL.match(block, position + len(needle)):
        position = block.find(needle, position + len(needle))
    return position


class EventFilter:
    """Removes account events from a stream, and account fields from the other events."""

    def __init__(self, details: AccountDetails) -> None:
        self._details = details
        self._splitter = BodySplitter()
        self._needles = (*details.event_markers, _ESCAPE)

    def feed(self, data: bytes) -> bytes:
        """Return the visible part of the events that ``data`` completes.

        :raises UpstreamBroken: an event or a document is too long.
        """
        return self._filter_block(self._splitter.feed(data))

    def _filter_block(self, block: bytes) -> bytes:
        """Return the visible part of complete events. Only events that state a needle are parsed."""
        found = [*map(block.find, self._needles)]
        if max(found, default=-1) < 0:  # nearly always
            return block
        stated = [_find_stated(needle, block, position) for needle, position in zip(self._needles, found, strict=True)]
        visible, start = [], 0
        while positions := [position for position in stated if position >= 0]:
            begin, end = sse.bounds(block, min(positions), start)
            visible += [block[start:begin], self._filter_event(block[begin:end])]
            start = end
            for number, position in enumerate(stated):
                if 0 <= position < start:
                    needle = self._needles[number]
                    stated[number] = _find_stated(needle, block, block.find(needle, start))
        return b"".join([*visible, block[start:]]) if visible else block

    def finish(self) -> bytes:
        """Return the visible part of a document, or of the bytes after the last complete event."""
        document = self._splitter.document
        if document is not None:
            return _filter_json(self._details, bytes(document))
        rest = self._splitter.rest
        return _filter_json(self._details, rest) if _is_json(rest) else self._filter_block(rest)

    def _filter_event(self, event: bytes) -> bytes:
        """Return the visible part of an event that states a needle. If it is not readable, that is nothing."""
        name, data = sse.parse(event)
        try:
            content = jsontext.loads(data) if data else None
        except ValueError:
            return b""
        kind = content.get("type") if isinstance(content, dict) else None
        kind = kind if isinstance(kind, str) else name or ""
        if self._details.covers_event(kind) or (name and self._details.covers_event(name)):
            return b""
        if not data and _is_json(event):  # the form of an error of some upstreams
            return _filter_json(self._details, event)
        if not isinstance(content, dict) or not _hide_in_event(self._details, kind, content):
            return event
        return sse.encode(name or kind, jsontext.dumps(content))


def _hide_in_event(details: AccountDetails, kind: str, content: dict[str, Any]) -> bool:
    """Hide the details in the content of an event of type ``kind``. Return whether it had any."""
    changed = _hide_in_object(details, content) if kind == "error" else _hide_in_error(details, content)
    if isinstance(response := content.get("response"), dict):
        changed |= _hide_in_object(details, response)
    if isinstance(headers := content.get("headers"), Mapping):
        visible = {name: value for name, value in headers.items() if not details.covers_header(name.lower())}
        changed |= len(visible) < len(headers)
        content["headers"] = visible
    return changed


def _is_json(data: bytes) -> bool:
    return data.lstrip().startswith((b"{", b"["))


def _filter_json(details: AccountDetails, data: bytes) -> bytes:
    """Filter a response object or an error body, which may be a list of errors.

    The white space at its end is kept, because an empty line ends an event.
    """
    try:
        content = jsontext.loads(data.removeprefix(BYTE_ORDER_MARK))
    except ValueError:
        return data
    objects = [part for part in (content if isinstance(content, list) else [content]) if isinstance(part, dict)]
    changed = [_hide_in_object(details, part) for part in objects]
    if not any(changed):
        return data
    return jsontext.dumps(content) + data[len(data.rstrip()) :]


def _hide_in_object(details: AccountDetails, content: dict[str, Any]) -> bool:
    """Hide the details in a response object, an error object, or an object with an ``error``.

    Fields of a response become null, because clients may rely on their presence.
    """
    names = [name for name in details.response_fields if content.get(name) is not None]
    content.update(dict.fromkeys(names))
    values = [content.pop(name) for name in details.error_fields if name in content]
    return bool(_hide_in_error(details, content) or names or values)


def _hide_in_error(details: AccountDetails, content: dict[str, Any]) -> bool:
    """Hide the details in the ``error`` of ``content``."""
    error = content.get("error")
    if not isinstance(error, dict):
        return False
    removed = [error.pop(name) for name in details.error_fields if name in error]
    return bool(removed)
