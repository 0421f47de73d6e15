"""The record of how a request was served, for the log, the metrics and the usage counts."""

import time
from dataclasses import dataclass, field

from floway_core.contexts import AttemptContext
from floway_core.engine.pass_through import PassThroughAnswer
from floway_core.engine.routing import Candidate
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.forwarded_answer import ForwardedAnswer


@dataclass
class AttemptTrace:
    """The record of one attempt."""

    candidate: Candidate
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    """When it failed, in monotonic time; None if it has not failed before the answer started."""
    context: AttemptContext | None = None
    """None until it has started."""
    dispatched: list[float] = field(default_factory=list)
    """When each dispatch was sent, in monotonic time."""
    committed: float | None = None
    """When its response was stored, in monotonic time."""
    status: int | None = None
    """HTTP status of the last answer of the upstream."""
    error: str | None = None
    """The code of the error with which it failed."""

    @property
    def dispatches(self) -> int:
        """Requests sent to the candidate."""
        return len(self.dispatched)


@dataclass
class RequestTrace:
    """One per request. The engine writes it; observers read it when the last byte has been sent."""

    attempts: list[AttemptTrace] = field(default_factory=list)
    """In the order in which they were made."""
    failures: list[tuple[Candidate, str]] = field(default_factory=list)
    """Why attempts failed: the status of the response, or the code of the error if there was no response."""
    continued: bool = False
    """Whether the request continues a conversation."""
    events: ResponseAccumulator | PassThroughAnswer | ForwardedAnswer | None = None
    """The response of the upstream of the last attempt so far."""
    unstored: bool = False
    """Whether the response should have been stored and was not."""

    @property
    def candidate(self) -> Candidate | None:
        """The candidate of the last attempt; None if there was no attempt."""
        return self.attempts[-1].candidate if self.attempts else None

    @property
    def dispatches(self) -> int:
        """Requests sent to all candidates together."""
        return sum([len(attempt.dispatched) for attempt in self.attempts])

    def end_attempt(self, error: str | None) -> None:
        """Record that the last attempt has failed with the code ``error``."""
        self.attempts[-1].ended, self.attempts[-1].error = time.monotonic(), error
