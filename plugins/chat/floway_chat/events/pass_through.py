"""Read answers that are passed through to a chat client: their usage, end and failure."""

from collections.abc import Mapping
from typing import Any

from floway_chat.events import chunks
from floway_core.dialect import AnswerReader
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext, sse
from floway_core.protocol.failures import Failure
from floway_core.protocol.responses import FAILED

USAGE_COMMENT = b": usage "
"""A comment in place of a chunk that has only the usage. Clients ignore comments."""


class UsageHider:
    """A translator that turns the usage into a comment, for a client that has not requested it."""

    def feed(self, block: bytes) -> bytes:
        """Return the chunks unchanged, except for the usage."""
        if b'"usage"' not in block:
            return block
        return b"".join(map(self._hide, sse.split(block)))

    def end(self) -> bytes:
        """Return nothing: the chunks have been sent."""
        return b""

    def failure(self, error: GatewayError) -> bytes:
        """Return nothing: the gateway reports the failure in the client's format."""
        return b""

    @staticmethod
    def _hide(event: bytes) -> bytes:
        parsed_chunks, _ = chunks.parse_chunks(event)
        if len(parsed_chunks) != 1 or parsed_chunks[0].get("choices"):
            return event
        usage = parsed_chunks[0].get("usage")
        return USAGE_COMMENT + jsontext.dumps(usage) + b"\n\n" if isinstance(usage, dict) else event


class ChatAnswerReader(AnswerReader):
    """Reads the chunks of a stream, or a whole answer."""

    def __init__(self) -> None:
        super().__init__()
        self._finish: str | None = None

    def feed(self, block: bytes) -> None:
        """Read chunks."""
        parsed_chunks, is_done = chunks.parse_chunks(block)
        for chunk in parsed_chunks:
            self._read(chunk)
        if USAGE_COMMENT in block:
            usage = jsontext.loads(block.partition(USAGE_COMMENT)[2].partition(b"\n")[0])
            self.response["usage"] = chunks.read_usage({"usage": usage})
        if is_done and not self.terminal:
            self._end(self._finish)

    def end(self) -> None:
        """Treat the end of the body as the end of the answer if the server has sent a ``finish_reason``."""
        if self._finish and not self.terminal:  # some servers send no [DONE]
            self._end(self._finish)

    def read(self, content: bytes) -> None:
        """Read an answer that was not streamed."""
        answer = chunks.parse_json(content)
        if not isinstance(answer, dict):
            raise ValueError("it is not a JSON object")
        self._read(answer)
        if not self.terminal:
            self._end(self._finish)

    def _read(self, chunk: Mapping[str, Any]) -> None:
        if failure := chunks.find_failure(chunk):
            self._fail(failure)
            return
        choice = chunks.first_choice(chunk)
        delta = choice.get("delta") or {}
        self.has_content = self.has_content or any(value for name, value in delta.items() if name != "role")
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self._finish = finish
        if usage := chunks.read_usage(chunk):
            self.response["usage"] = usage
        if tier := chunk.get("service_tier"):
            self.response["service_tier"] = tier

    def _end(self, finish: str | None) -> None:
        terminal, _ = chunks.find_terminal(finish)
        if terminal == FAILED:
            self._fail(Failure(f"The upstream ended its answer with {finish!r}.", finish))
            return
        self.terminal = terminal
        self.response["status"] = terminal.removeprefix("response.")

    def _fail(self, failure: Failure) -> None:
        self.failure, self.terminal = failure, FAILED
        self.response["status"] = "failed"
