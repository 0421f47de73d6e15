"""Cut texts to the part that the client sees: up to a stop sequence, and without the gateway's wrapper object."""

from floway_core.protocol.stop_sequences import StopScanner
from floway_gemini.client.view import ClientView


class VisibleText:
    """Processes one text that arrives in chunks."""

    def __init__(self, view: ClientView) -> None:
        self._scanner = StopScanner(view.stop_sequences) if view.stop_sequences else None
        self._unwrapper = Unwrapper() if view.is_wrapped else None

    @property
    def has_stopped(self) -> bool:
        """Whether a stop sequence has occurred."""
        return self._scanner is not None and self._scanner.match is not None

    def feed(self, chunk: str) -> str:
        """Return the text that can be shown now."""
        if self._unwrapper:
            chunk = self._unwrapper.feed(chunk)
        return self._scanner.feed(chunk) if self._scanner else chunk

    def end(self) -> str:
        """Return the text that was held back. Call it when the text has ended."""
        rest = self._unwrapper.end() if self._unwrapper else ""
        if not self._scanner:
            return rest
        return self._scanner.feed(rest) + self._scanner.end()


class Unwrapper:
    """Extracts the JSON of the value from the JSON of an object with one property, while it arrives."""

    def __init__(self) -> None:
        self._pending = ""
        """Text that may be the end of the object; before the value starts, all text."""
        self._is_inside = self._has_begun = False

    def feed(self, chunk: str) -> str:
        """Return the text that belongs to the value."""
        text, self._pending = self._pending + chunk, ""
        if not self._is_inside:
            head, colon, rest = text.partition(":")
            if not colon:
                self._pending = text
                return ""
            self._is_inside = True
            text = rest if head.lstrip().startswith("{") else text
        if not self._has_begun:
            text = text.lstrip()
            self._has_begun = bool(text)
        value = text.rstrip()
        while value.endswith("}"):
            value = value[:-1].rstrip()
        self._pending = text[len(value) :]
        return value

    def end(self) -> str:
        """Return the rest of the value, without the end of the object."""
        rest, self._pending = self._pending.rstrip(), ""
        return rest[:-1].rstrip() if self._is_inside and rest.endswith("}") else rest


def cut_visible(text: str, view: ClientView) -> tuple[str, bool]:
    """Return the visible part of a complete text, and whether a stop sequence has ended it."""
    if not view.stop_sequences and not view.is_wrapped:
        return text, False
    visible = VisibleText(view)
    return visible.feed(text) + visible.end(), visible.has_stopped
