"""Following the upstream's answer: relayed as a stream, or collected into one response."""

import contextlib
import logging
import re
import time
from collections.abc import Iterator
from typing import Any

from floway_core.config import Settings
from floway_core.engine.attempt import Attempt
from floway_core.engine.compaction import as_compaction
from floway_core.engine.keep import keep
from floway_core.errors import ClientGone, GatewayError, UpstreamBroken, UpstreamTimeout
from floway_core.gateway import Gateway
from floway_core.protocol import jsontext, sse
from floway_core.protocol.responses import COMPLETED, FAILED, Transcript, is_response
from floway_core.protocol.synthesis import events_of

log = logging.getLogger("floway.engine")

LONGEST_EVENT = 64 * 2**20
"""Bytes. An event may hold a whole answer with images."""

DRAIN_TIMEOUT = 0.25
"""Seconds to wait for the end of a body after its terminal event, so that the connection can be used again."""

# What a client that does not stream is told when the answer fails half-way, by the code of the failure.
STATUS_OF_FAILURE = {
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "usage_limit_reached": 429,
    "server_is_overloaded": 503,
}


def _is_event_stream(attempt: Attempt) -> bool:
    """Some upstreams leave the content type out; one that is there must be right."""
    kind = attempt.reply.header("content-type")
    return kind is None or kind.partition(";")[0].strip().lower() == "text/event-stream"


def relay(gateway: Gateway, attempt: Attempt) -> "Relay":
    """The answer for a client that streams. Closes the upstream when it raises.

    :raises UpstreamBroken, UpstreamTimeout: the upstream answered neither with events nor with a response.
    :raises ClientGone: the client hung up meanwhile.
    """
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(attempt.reply.body.close)
        made = Relay(gateway, attempt, _answer(gateway.settings, attempt))
        on_failure.pop_all()
        return made


def _answer(settings: Settings, attempt: Attempt) -> "Iterator[bytes | None] | _Blocks":
    """The events of the answer, whatever form it comes in; None when a keep-alive is due."""
    if _is_event_stream(attempt):
        blocks = _Blocks(settings, attempt)
    else:
        blocks = events_of(_read_json(settings, attempt))
    return as_compaction(blocks) if attempt.summarises else blocks


class Relay:
    """The bytes for a client that streams: iterate, then close.

    Every event is passed on as soon as it is complete, byte for byte, but for the response objects in some (see
    ``Transcript.follow``). The terminal event leaves when the response has been stored, and not before. A stream that
    breaks ends in ``error`` and ``response.failed``, never in silence.

    Iterating waits for the upstream, unless it is told to do ``without_waiting``.
    """

    def __init__(self, gateway: Gateway, attempt: Attempt, blocks: "Iterator[bytes | None] | _Blocks") -> None:
        """:param blocks: complete events; None when a keep-alive is due, ``b""`` when there is nothing to pass on."""
        self.transcript = attempt.course.transcript = Transcript(attempt.known, attempt.context.model)
        self._gateway = gateway
        self._attempt = attempt
        self._blocks = blocks
        self._told_all = False

    def without_waiting(self) -> int | None:
        """Go on without waiting: what iterating yields is ``b""`` then when nothing has arrived, and None once, before
        what takes longer and is to be done while ``waiting``.

        :returns: a descriptor that becomes readable when there may be more; None when there is no such thing, and
            everything is as it was.
        """
        if not isinstance(self._blocks, _Blocks):
            return None
        fileno = self._attempt.reply.body.fileno()
        self._blocks.waits = fileno is None
        return fileno

    def waiting(self) -> None:
        """Go on as in the beginning."""
        self._blocks.waits = True

    def __iter__(self) -> Iterator[bytes | None]:
        try:
            for block in self._blocks:
                if block is None:
                    yield sse.KEEPALIVE
                elif block:
                    yield from self._followed(block)
                else:
                    yield b""
                if self.transcript.terminal:
                    return
            raise UpstreamBroken("The upstream ended its stream without a terminal event.")
        except ClientGone:
            return
        except GatewayError as error:
            yield from self._until_waiting()
            yield self.transcript.failure(error.code or "server_error", error.message)
        except Exception:  # the head has left: only an event can still tell the client
            log.exception("Relaying the answer failed")
            yield from self._until_waiting()
            yield self.transcript.failure("server_error", "The gateway failed while it relayed the answer.")

    def _followed(self, block: bytes) -> Iterator[bytes | None]:
        told = []
        for piece in self.transcript.follow(block):
            if self.transcript.terminal:
                self._told_all = True
                yield from self._until_waiting()
                if told:
                    yield b"".join(told)
                if self.transcript.terminal in COMPLETED:
                    keep(self._gateway, self._attempt, self.transcript.envelope)
                    piece += sse.DONE
                yield piece
                return
            told.append(piece)
        yield b"".join(told)

    def _until_waiting(self) -> Iterator[None]:
        if isinstance(self._blocks, _Blocks) and not self._blocks.waits:
            yield None

    def close(self) -> None:
        """Let go of the upstream. Called when the last byte has been sent, or the client is gone."""
        try:
            if self._told_all:
                _drain(self._attempt)
        finally:
            self._attempt.reply.body.close()


def collect(gateway: Gateway, attempt: Attempt) -> Transcript:
    """The answer for a client that does not stream, complete and stored. Closes the upstream.

    :returns: what the upstream told; the response is its ``envelope``.
    :raises GatewayError: the answer failed, broke off or could not be stored.
    :raises ClientGone: the client hung up meanwhile.
    """
    transcript = attempt.course.transcript = Transcript(attempt.known, shown=False)
    try:
        if attempt.summarises or _is_event_stream(attempt):
            for block in _answer(gateway.settings, attempt):
                for _ in transcript.follow(block or b""):
                    pass
                if transcript.terminal:
                    break
        else:
            transcript.take(_read_json(gateway.settings, attempt))
        if transcript.terminal not in COMPLETED:
            raise _failure(transcript)
        keep(gateway, attempt, transcript.envelope)
        _drain(attempt)
    except UpstreamBroken:
        if transcript.error is None:
            raise
        raise _failure(transcript) from None  # the upstream has said why
    finally:
        attempt.reply.body.close()
    return transcript


def _failure(transcript: Transcript) -> GatewayError:
    """What the upstream said when it failed: in its terminal event, else in an ``error`` event, else nothing."""
    told = transcript.envelope.get("error") if transcript.terminal == FAILED else transcript.error
    told = told.get("error", told) if isinstance(told, dict) else None
    if not isinstance(told, dict):
        return UpstreamBroken("Responses stream ended without a terminal event.")
    code = str(told.get("code") or told.get("type") or "upstream_failed")
    message = str(told.get("message") or "The upstream failed to answer.")
    return GatewayError(STATUS_OF_FAILURE.get(code, 502), message, code=code)


def _read_json(settings: Settings, attempt: Attempt) -> dict[str, Any]:
    """A response that came in one piece."""
    kind = attempt.reply.header("content-type") or ""
    if not re.match(r"application/([\w.-]+\+)?json\b", kind, re.IGNORECASE):
        raise UpstreamBroken(f"The upstream answered with {kind!r} instead of a response.")
    pieces, size, ends = [], 0, time.monotonic() + settings.total_timeout
    while data := attempt.reply.body.read(settings.idle_timeout, attempt.context.request.client):
        if time.monotonic() >= ends:
            raise _overtime(attempt, settings)
        pieces.append(data)
        size += len(data)
        if size > LONGEST_EVENT:
            raise UpstreamBroken(f"The upstream's answer is longer than {LONGEST_EVENT} bytes.")
    if data is None:
        raise _silence(attempt, settings)
    try:
        response = jsontext.loads(b"".join(pieces))
    except ValueError:
        response = None
    if not is_response(response):
        raise UpstreamBroken("The upstream's answer is no response object.")
    return response


class _Blocks:
    """Blocks of complete events as they arrive; None when a keep-alive is due, ``b""`` when nothing is there and nobody
    waits. Iterating raises

    - ``UpstreamBroken`` or ``UpstreamTimeout``: the stream ended early, fell silent or is unreadable;
    - ``ClientGone``: the client hung up.
    """

    def __init__(self, settings: Settings, attempt: Attempt) -> None:
        self.waits = True
        self._settings = settings
        self._attempt = attempt
        self._body, self._client = attempt.reply.body, attempt.context.request.client
        self._splitter = sse.EventSplitter(LONGEST_EVENT)
        self._told = self._heard = time.monotonic()
        self._ends = self._told + settings.total_timeout

    def __iter__(self) -> Iterator[bytes | None]:
        return self

    def __next__(self) -> bytes | None:
        while True:
            data = self._body.read(self._patience() if self.waits else 0, self._client)
            now = time.monotonic()
            if data == b"":
                raise StopIteration
            if now >= self._ends:
                raise _overtime(self._attempt, self._settings)
            if data is None:
                return self._nothing(now)
            self._heard = self._told = now
            try:
                block = self._splitter.feed(data)
            except ValueError as error:
                raise UpstreamBroken(f"The upstream's stream is unreadable: {error}.") from None
            if block or not self.waits:
                return block

    def _patience(self) -> float:
        """Seconds until the client, or the upstream, has waited long enough."""
        now, settings = time.monotonic(), self._settings
        return min(settings.keepalive_interval, self._heard + settings.idle_timeout - now, self._ends - now)

    def _nothing(self, now: float) -> bytes | None:
        if now - self._heard >= self._settings.idle_timeout:
            raise _silence(self._attempt, self._settings)
        if not self.waits and now - self._told < self._settings.keepalive_interval:
            return b""
        self._told = now
        return None


def _silence(attempt: Attempt, settings: Settings) -> UpstreamTimeout:
    name, limit = attempt.context.upstream.name, settings.idle_timeout
    return UpstreamTimeout(f"The upstream {name!r} has been silent for {limit:g} seconds.")


def _overtime(attempt: Attempt, settings: Settings) -> UpstreamTimeout:
    name, limit = attempt.context.upstream.name, settings.total_timeout
    return UpstreamTimeout(f"The upstream {name!r} has not finished within {limit:g} seconds.")


def _drain(attempt: Attempt) -> None:
    """Read to the end of the body, which as a rule is there already."""
    deadline = time.monotonic() + DRAIN_TIMEOUT
    try:
        while (left := deadline - time.monotonic()) > 0 and attempt.reply.body.read(left):
            pass
    except (UpstreamBroken, ClientGone):
        pass
