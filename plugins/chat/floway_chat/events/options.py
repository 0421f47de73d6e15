"""The options of a chat request that shape the answer."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from floway_core.contexts import ClientRequest


@dataclass(frozen=True)
class AnswerOptions:
    """The options of one answer."""

    id: str
    """The id of the answer. It is derived from the request id, so that the request can be found in the log."""
    model: str
    """The requested model, for an answer that names none."""
    include_usage: bool = False
    """Whether a stream ends with a chunk that has the usage."""
    uses_functions: bool = False
    """Whether calls have the deprecated form ``function_call``."""
    logprobs: bool = False
    stop: tuple[str, ...] = ()
    """Texts that end the answer; they are not part of it."""

    @property
    def system_fingerprint(self) -> str:
        """A fingerprint for answers of upstreams that have none: always the same for a model."""
        return f"fp_{hashlib.sha256(self.model.encode('utf-8', 'replace')).hexdigest()[:10]}"


def read_options(client_request: ClientRequest) -> AnswerOptions:
    """Read the options of a chat request."""
    body: Mapping[str, Any] = client_request.original.body if client_request.original else {}
    # An untranslatable request is passed through: the server has applied its stop sequences, which may not be texts.
    stop = () if client_request.untranslatable else body.get("stop") or ()
    return AnswerOptions(
        id=f"chatcmpl-{client_request.id.replace('-', '')}",
        model=str(client_request.body["model"]),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        uses_functions=bool(body.get("functions")),
        logprobs=bool(body.get("logprobs")),
        stop=tuple(text for text in ((stop,) if isinstance(stop, str) else stop) if text),
    )
