"""Reasoning that a server leaves in the text: ``<think>...</think>`` at its beginning, also split over chunks."""

import enum

TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "[THINK]": "[/THINK]",
}
"""The tags that models write, and how each of them ends."""


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
        self._held = ""
        """Text that may be the beginning of a tag."""

    @property
    def is_answering(self) -> bool:
        """Whether all further text belongs to the answer, so that ``feed`` need not be called."""
        return self._state is _State.ANSWER

    def feed(self, piece: str) -> tuple[str, str]:
        """Add a piece of the text.

        :returns: what has become certain of the reasoning and of the answer.
        """
        text, self._held, thought = self._held + piece, "", ""
        if self._state is _State.START:
            text = self._read_start(text)
        if self._state is _State.THINKING:
            thought, text = self._read_thought(text)
        if self._state is _State.ANSWER_START and (text := text.lstrip()):
            self._state = _State.ANSWER
        return thought, text

    def end(self) -> tuple[str, str]:
        """Return the rest of the reasoning and of the answer, at the end of the text."""
        rest, self._held = self._held, ""
        return (rest, "") if self._state is _State.THINKING else ("", rest)

    def _read_start(self, text: str) -> str:
        """Look for a tag at the beginning; return what follows it, or what belongs to the answer."""
        stripped = text.lstrip()
        for tag, end_tag in TAGS.items():
            if stripped.startswith(tag):
                self._state, self._end_tag = _State.THINKING, end_tag
                return stripped[len(tag) :].lstrip("\n")
            if tag.startswith(stripped):  # also an empty one
                self._held = text
                return ""
        self._state = _State.ANSWER
        return text

    def _read_thought(self, text: str) -> tuple[str, str]:
        """Return the reasoning in ``text``, and what follows the end tag."""
        thought, tag, rest = text.partition(self._end_tag)
        if tag:
            self._state = _State.ANSWER_START
            return thought.rstrip("\n"), rest
        for length in range(min(len(text), len(self._end_tag) - 1), 0, -1):
            if text.endswith(self._end_tag[:length]):
                self._held = text[len(text) - length :]
                return text[: len(text) - length], ""
        return text, ""
