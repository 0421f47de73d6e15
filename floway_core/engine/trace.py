"""What has become of a request so far, written down by the engine for whoever watches."""

from dataclasses import dataclass, field

from floway_core.engine.routing import Candidate
from floway_core.protocol.accumulator import ResponseAccumulator


@dataclass
class RequestTrace:
    """One for each request. Whoever watches reads it when the last byte has left."""

    tried: list[Candidate] = field(default_factory=list)
    """In the order in which they were tried."""
    dispatches: int = 0
    """Requests sent to all of them together."""
    failures: list[tuple[Candidate, str]] = field(default_factory=list)
    """What kept dispatches from being accepted: the status of the answer, or the code of the error without one."""
    continued: bool = False
    """Whether it continues a conversation."""
    events: ResponseAccumulator | None = None
    """What the upstream that was tried last has sent in its answer."""
    unstored: bool = False
    """Whether the response was to be stored and could not."""
