"""Detection of clients that are a codex CLI."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from floway_codex.identity.claims import parse_id


@dataclass(frozen=True)
class CodexClient:
    """A codex CLI, IDE extension or app as the client. It keeps its own originator, user agent and version."""

    originator: str
    user_agent: str
    version: str
    beta_features: str | None
    lite: bool

    def placeholders(self) -> dict[str, Any]:
        """The client's own values for placeholders of a profile."""
        return {
            "originator": self.originator,
            "user_agent": self.user_agent,
            "version": self.version,
            "beta_features": self.beta_features,
        }


def detect_client(headers: Mapping[str, str]) -> CodexClient | None:
    """The Codex client that sent these headers; None for any other client.

    The version is read from the user agent, ``<originator>/<version> (...``: the CLI sends no ``version`` to a gateway.
    """
    originator, user_agent = (parse_id(headers.get(name)) for name in ("originator", "user-agent"))
    if not originator or not originator.lower().startswith("codex") or not user_agent:
        return None
    match = re.match(r"/(\d+\.\d+\.\d+[^ ]*)", user_agent.removeprefix(originator))
    if not match:
        return None
    return CodexClient(
        originator,
        user_agent,
        match[1],
        parse_id(headers.get("x-codex-beta-features")),
        headers.get("x-openai-internal-codex-responses-lite") == "true",
    )
