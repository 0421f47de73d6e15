"""The state that the items of an input leave for the conversion of those that follow."""

from dataclasses import dataclass, field


@dataclass
class InputState:
    """The state after some items of an input, so that what follows can be converted without them."""

    count: int = 0
    """How many there are, in the form in which they are sent."""
    has_instructions: bool = False
    """Whether a developer message is among them: only the first one may be the instructions."""
    ids: set[str] = field(default_factory=set)
    """The ids of the items."""
    answered_calls: set[str] = field(default_factory=set)
    """The call ids that have an output."""
    new_call_ids: dict[str, str] = field(default_factory=dict)
    """Call id -> the id that replaces it since it was reused."""
    call_id_uses: dict[str, int] = field(default_factory=dict)
    """How often call ids were used, if more than once."""
    turn: str | None = None
    """The turn in the metadata of the latest item that has any; only items of a codex CLI have."""

    def copy(self) -> "InputState":
        """Return a copy, which can be continued with other items."""
        return InputState(
            self.count,
            self.has_instructions,
            set(self.ids),
            set(self.answered_calls),
            dict(self.new_call_ids),
            dict(self.call_id_uses),
            self.turn,
        )
