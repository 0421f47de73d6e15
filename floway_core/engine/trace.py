"""The record of how a request was served, for the log, the metrics and the usage counts."""

from dataclasses import dataclass, field

from floway_core.engine.pass_through import PassedAnswer
from floway_core.engine.routing import Candidate
from floway_core.protocol.accumulator import ResponseAccumulator


@dataclass
class RequestTrace:
    """One per request. The engine writes it; observers read it when the last byte has been sent."""

    tried: list[Candidate] = field(default_factory=list)
    """In the order of the attempts."""
    dispatches: int = 0
    """Requests sent to all candidates together."""
    failures: list[tuple[Candidate, str]] = field(default_factory=list)
    """Why attempts failed: the status of the response, or the code of the error if there was no response."""
    continued: bool = False
    """Whether the request continues a conversation."""
    events: ResponseAccumulator | PassedAnswer | None = None
    """What the upstream of the last attempt has sent in its response."""
    unstored: bool = False
    """Whether the response should have been stored and was not."""
