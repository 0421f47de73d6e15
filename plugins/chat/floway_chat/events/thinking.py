"""Separate reasoning that a server leaves in the text: ``<think>...</think>`` at its start, also split over chunks."""

import enum

TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "[THINK]": "[/THINK]",
}
"""The start tags that models write, with their end tags."""


class _State(enum.Enum):
    START = enum.auto()
    THINKING = enum.auto()
    ANSWER_START = enum.auto()
    ANSWER = enum.auto()


class ThinkingSplitter:
    """Splits a text into reasoning and answer. Tags that do not begin the text belong to the answer."""

    def __init__(self) -> None:
        self._state = _State.START
        self._end_tag = ""
        self._pending = ""
        """Text that may be the beginning of a tag."""

    @property
    def is_answering(self) -> bool:
        """Whether all further text belongs to the answer, so that ``feed`` need not be called."""
        return self._state is _State.ANSWER

    def feed(self, chunk: str) -> tuple[str, str]:
        """Add a chunk of the text.

        :returns: the reasoning and the answer, as far as they are certain.
        """
        text, self._pending, thought = self._pending + chunk, "", ""
        if self._state is _State.START:
            text = self._read_start(text)
        if self._state is _State.THINKING:
            thought, text = self._read_thought(text)
        if self._state is _State.ANSWER_START and (text := text.lstrip()):
            self._state = _State.ANSWER
        return thought, text

    def end(self) -> tuple[str, str]:
        """Return the rest of the reasoning and of the answer, at the end of the text."""
        rest, self._pending = self._pending, ""
        return (rest, "") if self._state is _State.THINKING else ("", rest)

    def _read_start(self, text: str) -> str:
        """Look for a start tag; return the text after it, or the text of the answer."""
        stripped = text.lstrip()
        for tag, end_tag in TAGS.items():
            if stripped.startswith(tag):
                self._state, self._end_tag = _State.THINKING, end_tag
                return stripped[len(tag) :].lstrip("\n")
            if tag.startswith(stripped):  # or if the text so far is empty
                self._pending = text
                return ""
        self._state = _State.ANSWER
        return text

    def _read_thought(self, text: str) -> tuple[str, str]:
        """Return the reasoning in ``text``, and the text after the end tag."""
        thought, tag, rest = text.partition(self._end_tag)
        if tag:
            self._state = _State.ANSWER_START
            return thought.rstrip("\n"), rest
        for length in range(min(len(text), len(self._end_tag) - 1), 0, -1):
            if text.endswith(self._end_tag[:length]):
                self._pending = text[len(text) - length :]
                return text[: len(text) - length], ""
        return text, ""
