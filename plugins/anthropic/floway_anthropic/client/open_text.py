"""The texts of a response that are still arriving, and the indexes that identify them."""

from typing import Any

from floway_anthropic.client.block_stream import OpenBlock
from floway_core.protocol.stop_sequences import StopScanner

Event = dict[str, Any]
Key = tuple[int | None, int | None]
"""The index of an output item, and that of its part; None if it has no parts."""


def part_key(event: Event) -> Key:
    """Return the indexes of the item and the part that an event belongs to."""
    item, part = event.get("output_index"), event.get("content_index")
    return item if isinstance(item, int) else None, part if isinstance(part, int) else None


def item_key(event: Event) -> Key:
    """Return the index of the item that an event belongs to."""
    item = event.get("output_index")
    return item if isinstance(item, int) else None, None


class OpenText:
    """A text that is still arriving: of a message, of reasoning, or the arguments of a call."""

    __slots__ = ("block", "citations", "is_shown", "length", "part", "scanner", "text")

    def __init__(self, block: OpenBlock | None = None, scanner: StopScanner | None = None) -> None:
        """:param block: None to open it with the first visible text: the text may start with a stop sequence."""
        self.is_shown = block is not None
        self.block = block or OpenBlock({"type": "text", "text": ""})
        self.scanner = scanner
        self.text: list[str] = []
        self.length = 0
        """Characters received."""
        self.citations = 0
        """Annotations received."""
        self.part: Any = None
        """The part of a summary that the last delta belonged to."""
