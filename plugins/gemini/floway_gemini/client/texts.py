"""What the client sees of a text: all up to a stop sequence, without the object that the gateway has asked for."""

from floway_core.protocol.stop_sequences import StopScanner
from floway_gemini.client.view import ClientView


class VisibleText:
    """Takes one text in pieces."""

    def __init__(self, view: ClientView) -> None:
        self._scanner = StopScanner(view.stop_sequences) if view.stop_sequences else None
        self._unwrapper = Unwrapper() if view.is_wrapped else None

    @property
    def has_stopped(self) -> bool:
        """Whether a stop sequence has occurred."""
        return self._scanner is not None and self._scanner.found is not None

    def feed(self, piece: str) -> str:
        """Return what is to be shown now."""
        if self._unwrapper:
            piece = self._unwrapper.feed(piece)
        return self._scanner.feed(piece) if self._scanner else piece

    def end(self) -> str:
        """Return what was held back, because the text has ended."""
        rest = self._unwrapper.end() if self._unwrapper else ""
        if not self._scanner:
            return rest
        return self._scanner.feed(rest) + self._scanner.end()


class Unwrapper:
    """Takes the JSON of an object with one property, and returns that of its value, while it arrives."""

    def __init__(self) -> None:
        self._held = ""
        """What may be the end of the object, or all of a text that has not shown the beginning of the value yet."""
        self._is_inside = self._has_begun = False

    def feed(self, piece: str) -> str:
        """Return what belongs to the value."""
        text, self._held = self._held + piece, ""
        if not self._is_inside:
            head, colon, rest = text.partition(":")
            if not colon:
                self._held = text
                return ""
            self._is_inside = True
            text = rest if head.lstrip().startswith("{") else text
        if not self._has_begun:
            text = text.lstrip()
            self._has_begun = bool(text)
        kept = text.rstrip()
        while kept.endswith("}"):
            kept = kept[:-1].rstrip()
        self._held = text[len(kept) :]
        return kept

    def end(self) -> str:
        """Return the rest of the value: all that was held back but the end of the object."""
        held, self._held = self._held.rstrip(), ""
        return held[:-1].rstrip() if self._is_inside and held.endswith("}") else held


def show(text: str, view: ClientView) -> tuple[str, bool]:
    """Return what the client sees of a whole text, and whether a stop sequence has ended it."""
    if not view.stop_sequences and not view.is_wrapped:
        return text, False
    visible = VisibleText(view)
    return visible.feed(text) + visible.end(), visible.has_stopped
