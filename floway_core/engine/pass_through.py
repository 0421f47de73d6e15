"""Answers that are passed through to the client, because client and upstream speak the same dialect."""

import logging
from collections.abc import Callable
from typing import Any

from floway_core.dialect import AnswerReader
from floway_core.errors import UpstreamBroken
from floway_core.protocol.failures import Failure
from floway_core.protocol.responses import FAILED
from floway_core.provider import UpstreamResponse
from floway_core.runtime.plugin_calls import plugin_failure

log = logging.getLogger("floway.engine")


class PassThroughAnswer:
    """Reads the events of an answer without changing them; replaces ``ResponseAccumulator``."""

    def __init__(self, reader: AnswerReader) -> None:
        self._reader = reader
        self.terminal: str | None = None
        """As ``AnswerReader.terminal``; ``response.failed`` for an answer that the gateway ends."""
        self.failure: Failure | None = None
        self.terminal_event = b""
        """The events with which the answer ended."""
        self.saw_done = False
        """Always False: only the reader knows the end of the answer."""

    @property
    def response(self) -> dict[str, Any]:
        """The data of the answer so far, in the form of a response object."""
        return self._reader.response

    @property
    def has_content(self) -> bool:
        """Whether any content has arrived."""
        return self._reader.has_content

    def partial_output(self) -> list[dict[str, Any]]:
        """Return nothing: the output is not collected."""
        return []

    def add_events(self, block: bytes) -> bytes:
        """Add complete events, and return them; those with which the answer ends become ``terminal_event``."""
        self._reader.feed(block)
        self._update()
        if self.terminal is None:
            return block
        self.terminal_event += block
        return b""

    def end(self) -> None:
        """Handle the end of the stream. Some answers are only complete then."""
        self._reader.end()
        self._update()

    def add_content(self, content: bytes) -> None:
        """Add an answer that was not streamed.

        :raises UpstreamBroken: it is not an answer in this dialect.
        """
        try:
            self._reader.read(content)
        except ValueError as error:
            raise UpstreamBroken(f"The upstream's answer is unreadable: {error}.") from None
        self._update()

    def _update(self) -> None:
        self.failure = self.failure or self._reader.failure
        self.terminal = self.terminal or self._reader.terminal

    def fail(self, code: str, message: str) -> bytes:
        """End the answer as failed. The dialect's translator reports the failure, so there are no events."""
        self.terminal = FAILED
        self.response["status"] = "failed"
        self.response["error"] = {"code": (self.failure and self.failure.code) or code, "message": message}
        return b""


def open_answer(
    response: UpstreamResponse, dialect: str, reader: Callable[[], AnswerReader | None]
) -> PassThroughAnswer:
    """Return the state of an answer to pass through.

    :param dialect: the client's.
    :raises GatewayError: the plugin sent an answer that this client cannot read, or the dialect has no reader.
    """
    answer_reader = reader() if response.dialect == dialect else None
    if answer_reader is None:
        log.error("An answer in dialect %r cannot be passed to a client of dialect %r", response.dialect, dialect)
        raise plugin_failure()
    return PassThroughAnswer(answer_reader)
