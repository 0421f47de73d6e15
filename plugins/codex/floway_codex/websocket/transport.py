"""Sending requests over WebSockets as the CLI does: reuse, warm-up, reconnects, and when to send a POST instead."""

import contextlib
import functools
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from floway_codex.account import quota
from floway_codex.identity import turns
from floway_codex.websocket import events
from floway_codex.websocket.body import Answer, WebSocketBody
from floway_codex.websocket.connection import (
    ConnectionLost,
    UpgradeRefused,
    WebSocketConnection,
)
from floway_codex.websocket.frames import FrameBuilder
from floway_codex.websocket.held import add_held_items, conversation_key, note_sent
from floway_codex.websocket.increments import Progress, compared_fields, encode_items, find_new_items, join_texts
from floway_codex.websocket.pool import ConnectionPool, ConversationKey
from floway_codex.websocket.refusals import EVENT_STREAM, error_response, response_headers
from floway_codex.wire.input_state import InputState
from floway_codex.wire.websocket_form import WebSocketForm
from floway_core.contexts import AttemptContext, ClientConnection, ResponsesRequestContext, Services
from floway_core.errors import UpstreamTimeout
from floway_core.protocol import jsontext
from floway_core.provider import IterableBody, UpstreamResponse
from floway_core.upstream import HttpClient
from floway_core.upstream.poll import ReadinessPoller

WEBSOCKET, HTTP = "websocket", "http"

RECONNECT_SECONDS = (0.2, 0.4, 0.8, 1.5, 3.2)
"""Waits before reconnects, as the CLI's. After the last one the request is sent as a POST."""
AFTER_WARM_UP_SECONDS = 0.1
"""The wait after a refused upgrade for a warm-up, which the CLI does not count as one of the reconnects."""
UPGRADE_TIMEOUT_SECONDS = 15.0
CONTENT_WAIT_SECONDS = 5.0
"""For how long after its first event an answer without content is held back, so that the request can be sent again if
the connection is lost."""
POST_SECONDS_AFTER_426 = 3600.0
POST_SECONDS_AFTER_REFUSALS = 600.0
"""Time without upgrades after the backend has refused some."""
TOO_BIG = 1009
"""The code of a close frame: the message is too long."""
UPGRADE_REQUIRED = 426

log = logging.getLogger("floway.codex")


class SendPost(Exception):
    """The request has to be sent as a POST. The text says why."""


@dataclass(frozen=True)
class _Request:
    """One dispatch."""

    ctx: ResponsesRequestContext
    frames: FrameBuilder
    token: str
    key: ConversationKey

    @property
    def client(self) -> ClientConnection:
        return self.ctx.attempt.request.client


class WebSocketTransport:
    """Sends requests over WebSockets. One per process; serves all threads."""

    def __init__(self, services: Services, http: HttpClient, url: str) -> None:
        """:param url: of the backend's ``/codex/responses``."""
        self._services = services
        self._http = http
        self._url = url
        self._pool = ConnectionPool()
        self._posts_until = 0.0
        """Monotonic time until which no upgrade is tried."""
        self._never_readable, self._never_written = os.pipe()

    def find_progress(self, ctx: AttemptContext) -> Progress | None:
        """Return the progress of the conversation's idle connection, if a request continues exactly that."""
        progress = self._pool.find_progress(conversation_key(ctx))
        return progress if progress and ctx.continues and progress.continued_as == ctx.continues else None

    def send(self, ctx: ResponsesRequestContext, form: WebSocketForm, token: str) -> UpstreamResponse:
        """Send a request, and return when the backend has begun to answer.

        :param form: the form of the client's version.
        :raises SendPost: it has to be sent as a POST.
        :raises UpstreamUnreachable, UpstreamTimeout: the backend cannot be reached, or does not answer.
        :raises ClientDisconnected: the client disconnected; the request is abandoned.
        :raises GatewayError: the request cannot be sent.
        """
        if time.monotonic() < self._posts_until:
            raise SendPost("the backend has refused an upgrade")
        if not isinstance(ctx.body.get("input"), list):
            raise SendPost("the input is no list")
        key = conversation_key(ctx.attempt)
        request = _Request(ctx, FrameBuilder(form, ctx.attempt.provider_state, ctx.body), token, key)
        waits = list(RECONNECT_SECONDS)
        while True:
            try:
                return self._send_once(request, waits)
            except TimeoutError as error:
                raise _timeout() from error
            except ConnectionLost as lost:
                if lost.code == TOO_BIG:
                    raise SendPost("the request is too long for a message") from lost
                log.info("The WebSocket of thread %s was lost; reconnecting", key.thread)
            except UpgradeRefused as refused:
                if refused.status == 401:
                    return UpstreamResponse(401, refused.headers, IterableBody([refused.content]))
                if refused.status == UPGRADE_REQUIRED:
                    self._post_for(POST_SECONDS_AFTER_426, refused.status)
                if not waits:
                    self._post_for(POST_SECONDS_AFTER_REFUSALS, refused.status)
            if not waits:
                raise SendPost("the connection was lost too often")
            self._pause(waits.pop(0), request.client)

    def _post_for(self, seconds: float, status: int) -> NoReturn:
        """Send POSTs for a while.

        :raises SendPost: always.
        """
        self._posts_until = time.monotonic() + seconds
        log.warning("The backend answered %s to a WebSocket's upgrade; sending POSTs for %.0f s", status, seconds)
        raise SendPost(f"the backend answered {status} to the upgrade")

    def _pause(self, seconds: float, client: ClientConnection) -> None:
        ReadinessPoller(self._never_readable, client).wait(seconds)

    def _send_once(self, request: _Request, waits: list[float]) -> UpstreamResponse:
        """Send the request over the conversation's idle connection, or over a new one."""
        idle = self._pool.take(request.key)
        if idle is not None:
            return self._send_frame(request, idle.connection, idle.progress)
        add_held_items(request.ctx)  # the connection that held them is gone
        is_first = self._pool.add_thread(request.key)
        if is_first:
            waits.insert(0, AFTER_WARM_UP_SECONDS)
        connection = self._open(request, warms_up=is_first)
        if is_first:
            del waits[0]
        progress = self._warm_up(request, connection) if is_first else None
        return self._send_frame(request, connection, progress, connection.headers)

    # ------------------------------------------------------------------------------------------------------- connecting
    def _open(self, request: _Request, *, warms_up: bool) -> WebSocketConnection:
        """Open a connection.

        :raises UpgradeRefused, ConnectionLost: the backend refused the upgrade, or closed the connection.
        :raises SendPost: a WebSocket cannot be opened, but a POST may succeed.
        :raises UpstreamUnreachable, UpstreamTimeout: the backend cannot be reached; a POST would fail as well.
        """
        opened = self._http.open_socket(self._url)
        if opened is None:
            raise SendPost("the proxy understands HTTP only")
        try:
            headers = request.frames.upgrade_headers(request.token, warms_up=warms_up)
            connection = WebSocketConnection(opened, self._url, headers, request.token)
            connection.upgrade(UPGRADE_TIMEOUT_SECONDS, request.client)
        except TimeoutError:
            opened.close()
            self._posts_until = time.monotonic() + POST_SECONDS_AFTER_REFUSALS
            raise SendPost("the backend did not answer the upgrade") from None
        except BaseException:
            opened.close()
            raise
        return connection

    def _warm_up(self, request: _Request, connection: WebSocketConnection) -> Progress | None:
        """Send the warm-up, and wait for its empty response.

        :raises ConnectionLost: the connection was lost.
        """
        frame = request.frames.warmup(_now_ms())
        body = WebSocketBody(connection, lambda state: None, lambda answer: None)
        with _closing_on_error(connection):
            connection.send(jsontext.dumps(frame), request.client)
            deadline = time.monotonic() + self._services.settings.first_byte_timeout
            while not body.answer.has_ended:
                if not body.wait(max(0.0, deadline - time.monotonic()), request.client):
                    raise _timeout()
            response_id = body.answer.response_id
            if response_id is None:
                raise ConnectionLost
        self._note_limits(request, body.answer)
        texts, state = join_texts(encode_items(frame["input"])), InputState(len(frame["input"]))
        return Progress(compared_fields(request.ctx.body), texts, state, response_id, [])

    # ---------------------------------------------------------------------------------------------------------- sending
    def _send_frame(
        self,
        request: _Request,
        connection: WebSocketConnection,
        progress: Progress | None,
        headers: list[tuple[str, str]] | None = None,
    ) -> UpstreamResponse:
        """Send the frame, and wait until the answer has content.

        :param headers: of the answer to the upgrade, if this is the first request after it.
        :raises ConnectionLost: the connection was lost before, or a new one has to be opened.
        """
        with _closing_on_error(connection):
            ctx, prepared = request.ctx, request.ctx.attempt.provider_state.input
            text = encode_items(ctx.body["input"])
            new_items = find_new_items(progress, prepared, ctx.body, text)
            previous = progress.response_id if progress else None
            texts = join_texts(*(prepared.held.texts if prepared.held else ()), text)
            if new_items is None:
                add_held_items(ctx)
            message = jsontext.dumps(request.frames.frame(new_items, previous, _now_ms()))
            if connection.max_message_bytes is not None and len(message) > connection.max_message_bytes:
                raise SendPost("the request is too long for a message")

            def put_back(answer: Answer) -> None:
                self._pool.put(request.key, connection, note_sent(ctx, texts, answer))

            events_body = WebSocketBody(connection, functools.partial(self._show_turn_state, request), put_back)
            connection.send(message, request.client)
            self._wait_for_content(request, events_body)
            if _needs_new_connection(events_body.answer.error, is_current=connection.token == request.token):
                raise ConnectionLost
        answer = events_body.answer
        self._note_limits(request, answer)
        attempt = request.ctx.attempt.provider_state
        attempt.turn_state = attempt.turn_state or answer.turn_state
        if answer.error is not None:
            events_body.close()
            attempt.token = connection.token  # a refused token is that of the upgrade
            return error_response(answer.error)
        events_body.is_relayed = True
        state = [(turns.TURN_STATE, answer.turn_state)] if answer.turn_state else []
        return UpstreamResponse(200, [*response_headers(headers or []), *state, EVENT_STREAM], events_body)

    def _wait_for_content(self, request: _Request, body: WebSocketBody) -> None:
        """Wait for content, or for a refusal. An answer that has begun is not waited for long.

        :raises ConnectionLost: the connection was lost.
        :raises UpstreamTimeout: nothing has arrived.
        """
        answer = body.answer
        deadline, has_begun = time.monotonic() + self._services.settings.first_byte_timeout, False
        while not (answer.has_content or answer.has_ended):
            if not body.wait(max(0.0, deadline - time.monotonic()), request.client):
                if not has_begun:
                    raise _timeout()
                return
            if answer.has_begun and not has_begun:
                deadline, has_begun = time.monotonic() + CONTENT_WAIT_SECONDS, True

    def _show_turn_state(self, request: _Request, state: str) -> str | None:
        """Return the encrypted turn state for a codex CLI; None for other clients, which do not use it."""
        attempt = request.ctx.attempt.provider_state
        attempt.turn_state = attempt.turn_state or state
        return turns.encrypt_turn_state(self._services.secrets, state, attempt.owner) if attempt.client else None

    def _note_limits(self, request: _Request, answer: Answer) -> None:
        """Store the account's limits. The backend reports them before the answer."""
        if answer.limits is not None:
            limits = quota.parse_limits_event(answer.limits, time.time())
            quota.store_limits(self._services, request.ctx.attempt.upstream.id, limits)


@contextlib.contextmanager
def _closing_on_error(connection: WebSocketConnection) -> Iterator[None]:
    """Close a connection if the block raises."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _needs_new_connection(error: dict[str, Any] | None, *, is_current: bool) -> bool:
    """Whether a refusal concerns the connection, not the request.

    :param error: the event; None if there is none.
    :param is_current: whether the connection was opened with the token of the request. An older one may have expired.
    """
    if error is None:
        return False
    return events.read_code(error) in events.RECONNECT_CODES or (events.read_status(error) == 401 and not is_current)


def _timeout() -> UpstreamTimeout:
    return UpstreamTimeout("The upstream did not answer in time.")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
