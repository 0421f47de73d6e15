"""What sends bytes to a client as they come: a state machine that a thread or the server's stream loop drives."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any, Protocol

from floway_core.protocol.failures import Failure


class StreamState(Enum):
    """What a stream needs next."""

    WAITING = auto()
    """More of the upstream's answer."""
    NEEDS_THREAD = auto()
    """A thread for its next step, which may take long, such as storing the response."""
    ENDED = auto()
    """Nothing: the client has all bytes."""


class FollowedAnswer(Protocol):
    """What is known of an upstream's answer, for log, limits and usage."""

    terminal: str | None
    """Type of the terminal event; None until the answer is complete."""
    failure: Failure | None
    """The failure that the upstream has reported."""

    @property
    def response(self) -> dict[str, Any]:
        """The response object, or what of one is known."""


class ClientStream(ABC):
    """The bytes of one answer for its client: call ``advance`` until ``state`` is ``ENDED``, then ``close``.

    Only one thread at a time may use it. Log, limits and load subscribe to it.
    """

    def __init__(self, answer: FollowedAnswer) -> None:
        """:param answer: what the upstream has sent so far."""
        self.answer = answer
        self.state = StreamState.WAITING
        self._on_first_byte: list[Callable[[], None]] = []
        self._before_terminal: list[Callable[[], None]] = []
        self._on_close: list[Callable[[], None]] = []
        self._is_closed = False
        self.is_interlude = False
        """Whether a thread is needed for one step only, after which the stream waits again."""
        self.on_abandoned: Callable[[ClientStream], None] | None = None
        """Called in place of ``close`` if the client disconnects before the end; it advances the stream to its end."""

    @abstractmethod
    def fileno(self) -> int | None:
        """Return a descriptor that becomes readable when the upstream has sent more; None if there is none."""

    @abstractmethod
    def _step(self, wait: bool) -> bytes:
        """Take the next step, as ``advance``."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of the upstream's response."""

    def subscribe(
        self,
        *,
        first_byte: Callable[[], None] | None = None,
        before_terminal: Callable[[], None] | None = None,
        closed: Callable[[], None] | None = None,
    ) -> None:
        """Register callbacks, which must not raise.

        :param first_byte: called when the first bytes are ready to be sent.
        :param before_terminal: called in a thread, after the response has been stored and before the bytes leave by
            which the client learns that its response is complete or has failed.
        :param closed: called when the last byte has been sent, or the client has disconnected.
        """
        self._on_first_byte += [first_byte] if first_byte else []
        self._before_terminal += [before_terminal] if before_terminal else []
        self._on_close += [closed] if closed else []

    def advance(self, wait: bool = True) -> bytes:
        """Take the next step, and return the bytes for the client; ``b""`` if there are none yet.

        :param wait: whether to wait for the upstream until something is due. If not, only a step in the state
            ``NEEDS_THREAD`` may take long.
        :raises OSError: the answer has broken off, and only closing the connection tells the client.
        """
        sent = self._step(wait)
        if sent and self._on_first_byte:
            for callback in self._on_first_byte:
                callback()
            self._on_first_byte = []
        return sent

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes for the client, for servers that know nothing but WSGI."""
        while self.state is not StreamState.ENDED:
            if sent := self.advance():
                yield sent

    def close(self) -> None:
        """Close the upstream's response. Called when the last byte has been sent, or the client has hung up."""
        if self._is_closed:
            return
        if self.on_abandoned and self.state is not StreamState.ENDED:
            on_abandoned, self.on_abandoned = self.on_abandoned, None
            on_abandoned(self)
            return
        self._is_closed, self.state = True, StreamState.ENDED
        with contextlib.ExitStack() as stack:  # each of them runs, whatever the others raise
            for callback in reversed(self._on_close):
                stack.callback(callback)
            self._release()

    def _end(self) -> None:
        """End the stream: its last bytes are about to leave."""
        for callback in self._before_terminal:
            callback()
        self.state = StreamState.ENDED
