"""Stop sequences, which the gateway looks for itself: the Responses API has none."""

from collections.abc import Iterable, Sequence


class StopScanner:
    """Looks for stop sequences in one text that arrives in pieces."""

    def __init__(self, sequences: Sequence[str]) -> None:
        """:param sequences: none of them empty; at least one."""
        self._sequences = sequences
        self._longest = max(map(len, sequences))
        self._held = ""
        self.found: str | None = None
        """The stop sequence that has occurred first."""

    def feed(self, piece: str) -> str:
        """Return the text that may be shown: up to the stop sequence, and not what may be the beginning of one."""
        if self.found is not None:
            return ""
        text = self._held + piece
        first = _find_first(text, self._sequences)
        if first:
            position, self.found = first
            self._held = ""
            return text[:position]
        kept = self._count_held(text)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def end(self) -> str:
        """Return what was held back, because the text has ended."""
        held, self._held = self._held, ""
        return held

    def _count_held(self, text: str) -> int:
        """Return how many characters at the end of ``text`` may be the beginning of a stop sequence."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-length:]
            if any(sequence.startswith(end) for sequence in self._sequences):
                return length
        return 0


def _find_first(text: str, sequences: Iterable[str]) -> tuple[int, str] | None:
    """Return the position of the stop sequence that is complete first in a text, and the sequence.

    Its end counts, not its beginning: so it does not matter in which pieces the text arrives.
    """
    found = [(position, sequence) for sequence in sequences if (position := text.find(sequence)) >= 0]
    return min(found, key=lambda one: (one[0] + len(one[1]), one[0]), default=None)
