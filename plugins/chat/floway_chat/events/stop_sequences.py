"""Ending a text at a stop sequence. The Responses API has none, so the gateway applies those of chat clients."""

from collections.abc import Sequence


class StopSequences:
    """Cuts a text off in front of the first stop sequence, also one that is split over several pieces."""

    def __init__(self, sequences: Sequence[str]) -> None:
        """:param sequences: at least one; none is empty."""
        self._sequences = sequences
        self._held = ""
        """The end of the text so far that may be the beginning of a sequence."""
        self.found = False
        """Whether a sequence has occurred. What follows it is dropped."""

    def feed(self, piece: str) -> str:
        """Add a piece of the text; return what is certainly in front of any sequence."""
        if self.found:
            return ""
        text = self._held + piece
        positions = [position for sequence in self._sequences if (position := text.find(sequence)) >= 0]
        if positions:
            self.found, self._held = True, ""
            return text[: min(positions)]
        held = max(_overlap(text, sequence) for sequence in self._sequences)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def end(self) -> str:
        """Return the rest of the text, at its end."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, sequence: str) -> int:
    """Return how many characters at the end of ``text`` are a beginning of ``sequence``."""
    for length in range(min(len(text), len(sequence) - 1), 0, -1):
        if text.endswith(sequence[:length]):
            return length
    return 0


def cut(text: str, sequences: Sequence[str]) -> tuple[str, bool]:
    """Cut a whole text off in front of the first stop sequence.

    :returns: the text, and whether a sequence has occurred.
    """
    stop = StopSequences(sequences)
    return (stop.feed(text) + stop.end(), stop.found) if sequences else (text, False)
