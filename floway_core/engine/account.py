"""What upstreams tell of the account behind the gateway: for API keys that show it, and in no stored response.

Which headers, fields and events these are, a provider declares (``Provider.account_details``). They are taken out of an
answer before anything else looks at it, so that streams, answers in one piece and whatever is made of them are alike.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from floway_core.contexts import AttemptContext, ClientConnection
from floway_core.errors import UpstreamBroken
from floway_core.protocol import jsontext, sse
from floway_core.provider import AccountDetails, ErrorResponse, Provider, ResponseBody, UpstreamResponse

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

LARGEST = 64 * 2**20
"""Bytes of one event, or of an answer in one piece."""


# --------------------------------------------------------------------------------------------------------- the hooks
def hide_in_reply(provider: Provider, context: AttemptContext, reply: UpstreamResponse) -> UpstreamResponse:
    """``reply`` as the client of this attempt may see it; the same object where there is nothing to hide."""
    details = _hidden(provider, context)
    if details is None:
        return reply
    body = FilteredBody(reply.body, details, _media_type(reply)) if details.in_bodies else reply.body
    return replace(reply, headers=_visible_headers(details, reply.headers), body=body)


def hide_in_refusal(provider: Provider, context: AttemptContext, refusal: ErrorResponse) -> ErrorResponse:
    """The same for an answer that is not 2xx."""
    details = _hidden(provider, context)
    if details is None:
        return refusal
    content = _visible_json(details, refusal.content) if details.error_fields else refusal.content
    return replace(refusal, headers=_visible_headers(details, refusal.headers), content=content)


def without_account(provider: Provider, response: dict[str, Any]) -> dict[str, Any]:
    """A response object as it is stored: whatever the key shows today, nobody who reads it later sees the account."""
    names = [name for name in provider.account_details.response_fields if response.get(name) is not None]
    return {**response, **dict.fromkeys(names)} if names else response


def _hidden(provider: Provider, context: AttemptContext) -> AccountDetails | None:
    details = provider.account_details
    return None if context.request.api_key.shows_account or details == NOTHING else details


NOTHING = AccountDetails()


# ------------------------------------------------------------------------------------------------------------ headers
def _visible_headers(details: AccountDetails, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if not details.covers_header(name)]


def _media_type(reply: UpstreamResponse) -> str:
    return (reply.header("content-type") or "text/event-stream").partition(";")[0].strip().lower()


# -------------------------------------------------------------------------------------------------------------- bodies
class FilteredBody(ResponseBody):
    """A body without what describes the account. Of a stream it hands out complete events, and leaves those that say
    nothing of it as they came; an answer in one piece is handed out when it is complete."""

    def __init__(self, inner: ResponseBody, details: AccountDetails, media_type: str) -> None:
        self._inner = inner
        self._filter = EventFilter(details)
        self._whole = bytearray() if media_type.endswith("json") else None
        self._ended = False

    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        deadline = time.monotonic() + timeout if timeout else 0.0
        while not self._ended:
            data = self._inner.read(max(0.0, deadline - time.monotonic()) if timeout else 0, client)
            if data is None:
                return None
            self._ended = data == b""
            if visible := self._visible(data):
                return visible
        return b""

    def _visible(self, data: bytes) -> bytes:
        """What can be handed out now that ``data`` has come; ``b""`` ends the body."""
        if self._whole is None:
            return self._filter.feed(data) if data else self._filter.rest()
        self._whole += data
        if len(self._whole) > LARGEST:
            raise UpstreamBroken(f"The upstream's answer is longer than {LARGEST} bytes.")
        return b"" if data else self._filter.whole(bytes(self._whole))

    def fileno(self) -> int | None:
        return self._inner.fileno()

    def close(self) -> None:
        self._inner.close()


def _needles(details: AccountDetails) -> tuple[bytes, ...]:
    """Texts without which an event says nothing of the account. They are few: all events are searched for them."""
    names = [*details.response_fields, *(["error"] if details.error_fields else [])]
    names += ["headers"] if details.headers else []
    return (*(b'"%b"' % name.encode() for name in names), *(kind.rstrip("*").encode() for kind in details.events))


class EventFilter:
    """Takes account events out of a stream of events, and account fields out of the others."""

    def __init__(self, details: AccountDetails) -> None:
        self._details = details
        self._splitter = sse.EventSplitter(LARGEST)
        self._needles = _needles(details)

    def feed(self, data: bytes) -> bytes:
        """The visible part of the events that ``data`` completes.

        :raises UpstreamBroken: an event is too long.
        """
        try:
            block = self._splitter.feed(data)
        except ValueError as error:
            raise UpstreamBroken(f"The upstream's stream is unreadable: {error}.") from None
        if not self._is_about_account(block):
            return block
        return b"".join(map(self._visible, sse.split(block)))

    def rest(self) -> bytes:
        """The visible part of what came after the last complete event: an event without its empty line, or all of an
        answer that is no stream."""
        rest, self._splitter = self._splitter.rest, sse.EventSplitter(LARGEST)
        return _visible_json(self._details, rest) if _is_json(rest) else self._visible(rest)

    def whole(self, data: bytes) -> bytes:
        """The visible part of an answer in one piece, whatever it really is."""
        return _visible_json(self._details, data) if _is_json(data) else self.feed(data) + self.rest()

    def _is_about_account(self, block: bytes) -> bool:
        """Whether it may be; it is parsed then."""
        for needle in self._needles:
            if needle in block:
                return True
        return False

    def _visible(self, event: bytes) -> bytes:
        if not self._is_about_account(event):
            return event
        name, data = sse.parse(event)
        try:
            content = jsontext.loads(data)
        except ValueError:
            content = None
        kind = content.get("type") if isinstance(content, dict) else None
        kind = kind if isinstance(kind, str) else name or ""
        if self._details.covers_event(kind) or (name and self._details.covers_event(name)):
            return b""
        if not isinstance(content, dict) or not _hide_in_event(self._details, kind, content):
            return event
        return sse.encode(name or kind, jsontext.dumps(content))


def _hide_in_event(details: AccountDetails, kind: str, content: dict[str, Any]) -> bool:
    """Change the content of an event of type ``kind``; whether there was something to hide."""
    changed = _hide_in_object(details, content) if kind == "error" else _hide_in_error(details, content)
    if isinstance(response := content.get("response"), dict):
        changed |= _hide_in_object(details, response)
    if isinstance(headers := content.get("headers"), Mapping):
        visible = {name: value for name, value in headers.items() if not details.covers_header(name.lower())}
        changed |= len(visible) < len(headers)
        content["headers"] = visible
    return changed


def _is_json(data: bytes) -> bool:
    return data.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"{")


def _visible_json(details: AccountDetails, data: bytes) -> bytes:
    """An answer in one piece: a response object or an error body."""
    try:
        content = jsontext.loads(data.removeprefix(BYTE_ORDER_MARK))
    except ValueError:
        return data
    return jsontext.dumps(content) if isinstance(content, dict) and _hide_in_object(details, content) else data


def _hide_in_object(details: AccountDetails, content: dict[str, Any]) -> bool:
    """The same for a response object, an error object, or what has one in it. Clients may rely on the fields of a
    response to be there, so those become null."""
    named = [name for name in details.response_fields if content.get(name) is not None]
    content.update(dict.fromkeys(named))
    removed = [content.pop(name) for name in details.error_fields if name in content]
    return bool(_hide_in_error(details, content) or named or removed)


def _hide_in_error(details: AccountDetails, content: dict[str, Any]) -> bool:
    """The same for the ``error`` in ``content``."""
    error = content.get("error")
    names = [name for name in details.error_fields if name in error] if isinstance(error, dict) else []
    for name in names:
        del error[name]
    return bool(names)
