"""Translate the chunks of a generateContent answer to the events of the Responses API."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from floway_core.protocol import jsontext
from floway_core.protocol.failures import NO_REASON, Failure, read_failure
from floway_core.protocol.response_writer import ResponseEventWriter
from floway_gemini import grounding, thoughts, usage
from floway_gemini.reader import block_reason, candidate_of, documents, incomplete_reason

Content = dict[str, Any]

FAILURES = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE")
"""Finish reasons of unusable answers."""


class ResponseEvents:
    """Translates one answer."""

    def __init__(self, model: str, response_id: str, custom_tools: Collection[str] = ()) -> None:
        """:param model: the name that the upstream uses.
        :param response_id: the id of the response. The ids of calls are derived from it.
        :param custom_tools: names of tools that take free text. The upstream knows them as functions.
        """
        self._writer = ResponseEventWriter(model)
        self._response_id = response_id
        self._custom_tools = custom_tools
        self._usage: dict[str, Any] | None = None
        self._finish_reason: str | None = None
        self._finish_message: Any = None
        self._grounding: Content = {}
        self._text: list[str] = []
        """The texts of the open message, to which citations refer."""
        self._signature: str | None = None
        """The signature of the open message. It is written after the message, because citations may follow the text."""
        self._calls = 0
        self._has_ended = False

    # --------------------------------------------------------------------------------------------------- translator
    def feed(self, block: bytes) -> bytes:
        """Translate events (see ``Translator``)."""
        return b"".join([self.translate(content) for content in documents(block)])

    def end(self) -> bytes:
        """End the response if the upstream has sent a finish reason. Only then, because chunks may follow it."""
        return self.finish() if self._finish_reason and not self._has_ended else b""

    @property
    def response(self) -> Content:
        """The response object. It is complete after ``finish``."""
        return self._writer.response

    # -------------------------------------------------------------------------------------------------------- pieces
    def translate(self, content: Content) -> bytes:
        """Translate one parsed chunk."""
        if self._has_ended:
            return b""
        if content.get("error"):
            return self._fail(read_failure(content) or Failure(NO_REASON))
        events = [self._writer.begin()]
        candidate = candidate_of(content)
        inner = candidate.get("content")
        parts = inner.get("parts") if isinstance(inner, dict) else None
        parts = parts if isinstance(parts, list) else []
        events += [self._add_part(part) for part in parts if isinstance(part, dict)]
        if isinstance(metadata := candidate.get("groundingMetadata"), dict):
            self._grounding = metadata
        if isinstance(reason := candidate.get("finishReason"), str):
            self._finish_reason, self._finish_message = reason, candidate.get("finishMessage")
        elif reason := block_reason(content):
            self._finish_reason = "SAFETY"
            events.append(self._writer.refusal(f"The prompt was blocked: {reason}."))
        if isinstance(metadata := content.get("usageMetadata"), dict):
            self._usage = usage.to_responses(metadata)
        return b"".join(events)

    def _add_part(self, part: Content) -> bytes:
        signature = part.get("thoughtSignature")
        signature = signature if isinstance(signature, str) and signature else None
        call, data = part.get("functionCall"), part.get("inlineData")
        if isinstance(call, dict):
            events = self._end_text()
            events += self._end_reasoning(signature, is_call=True) if signature else b""
            return events + self._add_call(call)
        events = self._add_image(data) if isinstance(data, dict) else self._add_text(part)
        self._signature = signature or self._signature
        return events

    def _add_text(self, part: Content) -> bytes:
        text = part.get("text")
        if not isinstance(text, str) or not text:
            return b""
        if part.get("thought") is True:
            return self._end_text() + self._writer.reasoning(text, summary=True)
        self._text.append(text)
        return self._writer.text(text)

    def _end_text(self) -> bytes:
        """End the open message, and write its reasoning."""
        self._text = []
        signature, self._signature = self._signature, None
        return self._end_reasoning(signature, is_call=False) if signature else b""

    def _end_reasoning(self, signature: str, *, is_call: bool) -> bytes:
        return self._writer.end_reasoning(thoughts.encode_part_signature(signature, is_call=is_call))

    def _add_call(self, call: Content) -> bytes:
        name, key = str(call.get("name") or ""), self._calls
        self._calls += 1
        call_id = call.get("id")
        if not isinstance(call_id, str) or not call_id:
            call_id = f"call_{self._response_id[-24:]}_{key}"
        is_custom = name in self._custom_tools
        arguments = call.get("args")
        arguments = arguments if isinstance(arguments, dict) else {}
        text = _free_text(arguments) if is_custom else jsontext.dumps(arguments).decode()
        start = self._writer.open_call(key, call_id, name, custom=is_custom)
        return start + self._writer.call_delta(key, text) + self._writer.close_call(key)

    def _add_image(self, data: Content) -> bytes:
        kind, content = str(data.get("mimeType") or ""), data.get("data")
        if not kind.startswith("image/") or not isinstance(content, str):
            return b""
        end = self._end_text()
        output_format = kind.removeprefix("image/")
        item = {
            "type": "image_generation_call",
            "status": "completed",
            "result": content,
            "output_format": output_format,
        }
        return end + self._writer.item(item)

    # ----------------------------------------------------------------------------------------------------------- end
    def finish(self) -> bytes:
        """Write the end of the response."""
        self._has_ended = True
        reason = self._finish_reason
        if reason in FAILURES:
            message = self._finish_message
            message = message if isinstance(message, str) and message else f"The model stopped with {reason}."
            return self._fail(Failure(message, str(reason).lower()))
        events = self._add_citations() + self._end_text() + self._add_search()
        return events + self._writer.complete(self._usage, incomplete_reason=incomplete_reason(reason))

    def _fail(self, failure: Failure) -> bytes:
        self._has_ended = True
        return self._writer.fail(failure)

    def _add_citations(self) -> bytes:
        sources = grounding.read_sources(self._grounding)
        supports = grounding.read_supports(self._grounding, "".join(self._text)) if self._text else []
        return b"".join(
            self._writer.annotation({"type": "url_citation", "start_index": start, "end_index": end, **sources[at]})
            for start, end, at in supports
            if at < len(sources)
        )

    def _add_search(self) -> bytes:
        """Write the search item for the sources."""
        sources = grounding.read_sources(self._grounding)
        queries = [query for query in _list(self._grounding.get("webSearchQueries")) if isinstance(query, str)]
        if not queries and not sources:
            return b""
        action: Content = {"type": "search", "query": queries[0] if queries else "", "queries": queries}
        action["sources"] = [{"type": "url", **source} for source in sources]
        return self._writer.item({"type": grounding.CALL, "status": "completed", "action": action})


def convert_document(content: bytes, make: Callable[[], ResponseEvents]) -> bytes:
    """Convert an answer that is not streamed to a response object. Anything else is returned unchanged.

    :param make: returns a translator.
    """
    try:
        answer = jsontext.loads(content)
    except ValueError:
        return content
    chunks = answer if isinstance(answer, list) else [answer]
    if not chunks or not all(isinstance(chunk, dict) and _is_answer(chunk) for chunk in chunks):
        return content
    translator = make()
    for chunk in chunks:
        translator.translate(chunk)
    translator.finish()
    return jsontext.dumps(translator.response)


def _is_answer(chunk: Mapping[str, Any]) -> bool:
    return "candidates" in chunk or "promptFeedback" in chunk or "usageMetadata" in chunk


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _free_text(arguments: Content) -> str:
    """Return the text for a freeform tool from the arguments of its function."""
    text = arguments.get("input")
    return text if isinstance(text, str) else ""
