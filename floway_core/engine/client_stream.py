"""The base class of answers that are sent while they arrive: a state machine, driven by a thread or the stream loop."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from typing import Any, Protocol

from floway_core.protocol.failures import Failure


class StreamState(Enum):
    """The next need of a stream."""

    WAITING = auto()
    """More of the upstream's answer."""
    NEEDS_THREAD = auto()
    """A thread for its next step, which may block, such as storing the response."""
    ENDED = auto()
    """Nothing: the client has all bytes."""


# Python 3.11 looks up a member of an enumeration through its metaclass, which takes as long as calling a function.
WAITING, NEEDS_THREAD, ENDED = StreamState


class AnswerState(Protocol):
    """The state of an upstream's answer, for log, limits and usage."""

    terminal: str | None
    """Type of the terminal event; None until the answer is complete."""
    failure: Failure | None
    """The failure that the upstream has reported."""

    @property
    def response(self) -> dict[str, Any]:
        """The response object so far."""


class ClientStream(ABC):
    """The bytes of one answer for its client: call ``advance`` until ``state`` is ``ENDED``, then ``close``.

    Only one thread at a time may use it. Log, limits and load subscribe to it.
    """

    def __init__(self, answer: AnswerState) -> None:
        """:param answer: the upstream's answer so far."""
        self.answer = answer
        self.state = WAITING
        self._on_first_byte: list[Callable[[], None]] = []
        self._before_terminal: list[Callable[[], None]] = []
        self._on_close: list[Callable[[], None]] = []
        self._is_closed = False
        self.is_interlude = False
        """Whether a thread is needed for one step only, after which the stream waits again."""
        self.on_abandoned: Callable[[ClientStream], None] | None = None
        """Called instead of ``close`` if the client disconnects before the end. It advances the stream to its end."""

    @abstractmethod
    def fileno(self) -> int | None:
        """Return a descriptor that becomes readable when the upstream has sent more; None if there is none."""

    @abstractmethod
    def _step(self, wait: bool) -> bytes:
        """Take the next step, as ``advance``."""

    @abstractmethod
    def _release(self) -> None:
        """Close the upstream's response."""

    def subscribe(
        self,
        *,
        first_byte: Callable[[], None] | None = None,
        before_terminal: Callable[[], None] | None = None,
        closed: Callable[[], None] | None = None,
    ) -> None:
        """Register callbacks, which must not raise.

        :param first_byte: called when the first bytes are ready to be sent.
        :param before_terminal: called in a thread, after the response has been stored and before the bytes are sent
            that show the client that its response is complete or has failed.
        :param closed: called when the last byte has been sent, or the client has disconnected.
        """
        if first_byte:
            self._on_first_byte.append(first_byte)
        if before_terminal:
            self._before_terminal.append(before_terminal)
        if closed:
            self._on_close.append(closed)

    def advance(self, wait: bool = True) -> bytes:
        """Take the next step, and return the bytes for the client; ``b""`` if there are none yet.

        :param wait: whether to wait for the upstream until something is due. If not, only a step in the state
            ``NEEDS_THREAD`` may take long.
        :raises OSError: the answer has broken off. The caller must close the connection to show that to the client.
        """
        output = self._step(wait)
        if output and self._on_first_byte:
            for callback in self._on_first_byte:
                callback()
            self._on_first_byte = []
        return output

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes for the client, for plain WSGI servers."""
        while self.state is not ENDED:
            if output := self.advance():
                yield output

    def close(self) -> None:
        """Close the upstream's response. Called when the last byte has been sent, or the client has disconnected."""
        if self._is_closed:
            return
        if self.on_abandoned and self.state is not ENDED:
            on_abandoned, self.on_abandoned = self.on_abandoned, None
            on_abandoned(self)
            return
        self._is_closed, self.state = True, ENDED
        _call_each([self._release, *self._on_close])

    def _end(self) -> None:
        """End the stream: its last bytes are about to leave."""
        for callback in self._before_terminal:
            callback()
        self.state = ENDED


def _call_each(callbacks: Sequence[Callable[[], None]]) -> None:
    """Call each of ``callbacks``, also if another one raises."""
    for count, callback in enumerate(callbacks, 1):
        try:
            callback()
        except BaseException:
            _call_each(callbacks[count:])
            raise
