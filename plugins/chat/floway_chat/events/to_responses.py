"""Translate answers of chat servers, streamed or not, to the Responses API."""

from collections.abc import Mapping
from typing import Any

from floway_chat.events import chunks
from floway_chat.events.thinking import ThinkingSplitter
from floway_chat.events.tool_calls import ToolCalls, read_entries
from floway_chat.requests.tools import ToolTable
from floway_core.protocol import jsontext
from floway_core.protocol.failures import Failure
from floway_core.protocol.response_writer import ResponseEventWriter
from floway_core.protocol.responses import FAILED

_RESPONSE_FIELDS = ("service_tier", "system_fingerprint")
"""Fields of a chunk that become fields of the response object."""


class ResponsesTranslator:
    """Converts the chunks of one stream, or an answer that is not streamed.

    The response is complete when the server says so: by ``[DONE]``, by the usage after the last chunk, or by the end
    of the body after a ``finish_reason``. A stream that ends earlier is incomplete; the gateway reports that.
    """

    def __init__(self, writer: ResponseEventWriter, tools: ToolTable, seed: str) -> None:
        """:param seed: calls without an id get one that is derived from it."""
        self._writer = writer
        self._calls = ToolCalls(writer, tools, seed)
        self._thinking = ThinkingSplitter()
        self._finish: str | None = None
        """The ``finish_reason``."""
        self._has_content = False
        self._drops_spaces = False
        """Whether white space is dropped: some servers send line breaks between calls."""
        self._logprobs: list[Any] = []
        """Log probabilities of text that has not been written yet."""
        self._usage: dict[str, Any] | None = None
        self._fields: dict[str, Any] = {}
        self._has_ended = False

    # ------------------------------------------------------------------------------------------------- the translator
    def feed(self, block: bytes) -> bytes:
        """Convert chunks; see ``floway_core.dialect.Translator``."""
        if self._has_ended:
            return b""
        parsed, is_done = chunks.parse_chunks(block)
        events = []
        writes_text = self._is_in_text
        for chunk in parsed:
            if writes_text and (text := chunks.plain_text(chunk)):  # most chunks
                events.append(self._writer.text(text))
            else:
                events.append(self._read_chunk(chunk))
                writes_text = self._is_in_text
        if is_done and not self._has_ended:
            events.append(self._complete())
        return b"".join(events)

    def end(self) -> bytes:
        """Complete a response that the server has finished without ``[DONE]``."""
        return b"" if self._has_ended or self._finish is None else self._complete()

    def convert_document(self, content: bytes) -> bytes:
        """Convert a body that is not a stream; unchanged if it is not a chat answer, which the gateway reports."""
        try:
            answer = chunks.parse_json(content)
        except ValueError:
            return content
        if not isinstance(answer, dict) or not chunks.first_choice(answer):
            return content
        return jsontext.dumps(self.read_answer(answer))

    def read_answer(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a whole answer.

        :returns: the response object, with status ``failed`` if the answer reports a failure.
        """
        choice = chunks.first_choice(answer)
        self._read_chunk({**answer, "choices": [{**choice, "delta": choice.get("message")}]})
        if not self._has_ended:
            self._complete()
        response = self._writer.response
        if logprobs := chunks.read_logprobs(choice):
            parts = [part for item in response["output"] for part in item.get("content") or ()]
            for part in [part for part in parts if part.get("type") == "output_text"][:1]:
                part["logprobs"] = logprobs
        return response

    # --------------------------------------------------------------------------------------------------------- chunks
    @property
    def _is_in_text(self) -> bool:
        """Whether text that arrives can be written to the answer directly."""
        return self._has_content and self._thinking.is_answering and not self._drops_spaces and not self._has_ended

    def _read_chunk(self, chunk: Mapping[str, Any]) -> bytes:
        if self._has_ended:
            return b""
        if failure := chunks.find_failure(chunk):
            return self._fail(failure)
        choice = chunks.first_choice(chunk)
        events = b""
        delta = choice.get("delta")
        if delta is None and not self._has_content:  # some servers end with a complete message
            delta = choice.get("message")
        self._logprobs += chunks.read_logprobs(choice)
        if isinstance(delta, dict):
            events = self._read_delta(delta)
        if chunk.get("usage") or "x_groq" in chunk or choice.get("usage"):
            self._usage = chunks.read_usage(chunk) or self._usage
        for name in _RESPONSE_FIELDS:
            if chunk.get(name):
                self._fields[name] = chunk[name]
        if isinstance(finish := choice.get("finish_reason"), str) and finish:
            self._finish = finish
        elif self._finish is not None and not choice and self._usage:
            events += self._complete()
        return events

    def _read_delta(self, delta: Mapping[str, Any]) -> bytes:
        events = b""
        if thought := chunks.read_reasoning_text(delta):
            self._has_content = True
            events += self._write_split(thought, "")
        if text := chunks.read_text(delta.get("content")):
            events += self._write_text(text)
        for citation in chunks.read_citations(delta):
            self._has_content = True
            events += self._end_text() + self._writer.annotation(citation)
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            events += self._writer.refusal(refusal)
            self._has_content = True
        if entries := read_entries(delta):
            events += self._end_text() + self._calls.feed(entries)
            self._has_content = self._drops_spaces = True
            self._logprobs.clear()
        return events

    def _write_text(self, text: str) -> bytes:
        if self._thinking.is_answering:
            return self._write_answer(text)
        return self._write_split(*self._thinking.feed(text))

    def _write_split(self, thought: str, answer: str) -> bytes:
        events = b""
        if thought:
            events = self._writer.reasoning(thought)
            self._logprobs.clear()
        return events + (self._write_answer(answer) if answer else b"")

    def _write_answer(self, text: str) -> bytes:
        if self._drops_spaces and text.isspace():
            return b""
        self._has_content, self._drops_spaces = True, False
        logprobs, self._logprobs = self._logprobs, []
        return self._writer.text(text, logprobs)

    def _end_text(self) -> bytes:
        """Write the text that the splitter holds back, before a call or at the end."""
        return b"" if self._thinking.is_answering else self._write_split(*self._thinking.end())

    # ------------------------------------------------------------------------------------------------------- the ends
    def _complete(self) -> bytes:
        terminal, incomplete_reason = chunks.find_terminal(self._finish)
        if terminal == FAILED:
            return self._fail(Failure(f"The upstream ended its answer with {self._finish!r}.", self._finish))
        self._has_ended = True
        rest = self._end_text() + self._calls.close()
        return rest + self._writer.complete(self._usage, incomplete_reason=incomplete_reason, **self._fields)

    def _fail(self, failure: Failure) -> bytes:
        self._has_ended = True
        return self._writer.fail(failure)
