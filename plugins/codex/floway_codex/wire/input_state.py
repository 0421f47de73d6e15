"""What the items of an input mean for those that follow them."""

from dataclasses import dataclass, field


@dataclass
class InputState:
    """The state after some items of an input, so that what follows can be converted without them."""

    count: int = 0
    """How many there are, in the form in which they are sent."""
    has_instructions: bool = False
    """Whether a developer message is among them: only the first one may be the instructions."""
    ids: set[str] = field(default_factory=set)
    """Their ids."""
    answered_calls: set[str] = field(default_factory=set)
    """The call ids that have an output."""
    new_call_ids: dict[str, str] = field(default_factory=dict)
    """Call id -> the id in its place, since it was used again."""
    call_id_uses: dict[str, int] = field(default_factory=dict)
    """How often call ids were used, if more than once."""

    def copy(self) -> "InputState":
        """Return a copy that can go on with other items."""
        return InputState(
            self.count,
            self.has_instructions,
            set(self.ids),
            set(self.answered_calls),
            dict(self.new_call_ids),
            dict(self.call_id_uses),
        )
