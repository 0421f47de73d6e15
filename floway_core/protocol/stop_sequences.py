"""Stop sequences, which the gateway looks for itself: the Responses API has none."""

from collections.abc import Iterable, Sequence


class StopScanner:
    """Looks for stop sequences in one text that arrives in chunks."""

    def __init__(self, sequences: Sequence[str]) -> None:
        """:param sequences: none of them empty; at least one."""
        self._sequences = sequences
        self._longest = max(map(len, sequences))
        self._pending = ""
        """The end of the text so far, if it may be the beginning of a stop sequence."""
        self.match: str | None = None
        """The stop sequence that has occurred first. Text after it is dropped."""

    def feed(self, chunk: str) -> str:
        """Return the text that may be shown: up to the stop sequence, and not what may be the beginning of one."""
        if self.match is not None:
            return ""
        text = self._pending + chunk
        first = _find_first(text, self._sequences)
        if first:
            position, self.match = first
            self._pending = ""
            return text[:position]
        pending = self._count_pending(text)
        self._pending = text[len(text) - pending :]
        return text[: len(text) - pending]

    def end(self) -> str:
        """Return the text that ``feed`` has held back. Call it when the text has ended."""
        pending, self._pending = self._pending, ""
        return pending

    def _count_pending(self, text: str) -> int:
        """Return how many characters at the end of ``text`` may be the beginning of a stop sequence."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-length:]
            if any(sequence.startswith(end) for sequence in self._sequences):
                return length
        return 0


def cut_at_stop(text: str, sequences: Sequence[str]) -> tuple[str, str | None]:
    """Cut a complete text off in front of the first stop sequence.

    :returns: the text, and the sequence; None if none has occurred.
    """
    if not sequences:
        return text, None
    scanner = StopScanner(sequences)
    return scanner.feed(text) + scanner.end(), scanner.match


def _find_first(text: str, sequences: Iterable[str]) -> tuple[int, str] | None:
    """Return the position of the stop sequence that is complete first in a text, and the sequence.

    Its end counts, not its beginning. So the result does not depend on how the text is split into chunks.
    """
    matches = [(position, sequence) for sequence in sequences if (position := text.find(sequence)) >= 0]
    return min(matches, key=lambda match: (match[0] + len(match[1]), match[0]), default=None)
