"""Recognising a codex client in front of the gateway."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from floway_codex.identity.claims import well_formed


@dataclass(frozen=True)
class CodexClient:
    """A codex CLI (or IDE extension, app) in front of the gateway: it goes on under its own name."""

    originator: str
    user_agent: str
    version: str
    beta_features: str | None
    lite: bool

    def values(self) -> dict[str, Any]:
        """The placeholders of a profile that such a client has its own values for."""
        return {
            "originator": self.originator,
            "user_agent": self.user_agent,
            "version": self.version,
            "beta_features": self.beta_features,
        }


def codex_client(headers: Mapping[str, str]) -> CodexClient | None:
    """The Codex client that sent these headers, or None when it was something else.

    It does not send ``version`` to a gateway, but its user agent holds it: ``<originator>/<version> (...``.
    """
    originator, user_agent = (well_formed(headers.get(name)) for name in ("originator", "user-agent"))
    if not originator or not originator.lower().startswith("codex") or not user_agent:
        return None
    found = re.match(r"/(\d+\.\d+\.\d+[^ ]*)", user_agent.removeprefix(originator))
    if not found:
        return None
    return CodexClient(
        originator,
        user_agent,
        found[1],
        well_formed(headers.get("x-codex-beta-features")),
        headers.get("x-openai-internal-codex-responses-lite") == "true",
    )
