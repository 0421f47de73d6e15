"""Detection of clients that are a codex CLI, and what they show of their version."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floway_codex.identity.claims import CLAIM_HEADERS, OVER_HTTP, is_header_text, parse_id, read_claims
from floway_codex.identity.posted import CLI_HEADERS
from floway_codex.wire.profile import RequestShape


@dataclass(frozen=True)
class CodexClient:
    """A codex CLI, IDE extension or app as the client. It keeps its own originator, user agent and version."""

    originator: str
    user_agent: str
    version: str
    beta_features: str | None
    lite: bool
    headers: Mapping[str, str]
    """Its headers that no other client has, without ids."""
    header_order: tuple[str, ...]
    """The names of all its headers, in its order."""
    shape: RequestShape

    def placeholders(self) -> dict[str, Any]:
        """The client's own values for placeholders of a profile."""
        return {
            "originator": self.originator,
            "user_agent": self.user_agent,
            "version": self.version,
            "beta_features": self.beta_features,
        }


def detect_client(
    headers: Mapping[str, str], body: Mapping[str, Any], order: Sequence[str] = OVER_HTTP
) -> CodexClient | None:
    """The Codex client that sent this request; None for any other client.

    The version is read from the user agent, ``<originator>/<version> (...``: the CLI sends no ``version`` to a gateway.

    :param order: as in ``read_claims``.
    """
    originator = parse_id(headers.get("originator"))
    if not originator or not originator.lower().startswith("codex"):
        return None
    user_agent = parse_id(headers.get("user-agent"))
    if not user_agent:
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
        {
            name: value
            for name, value in headers.items()
            if name.startswith(CLI_HEADERS) and name not in CLAIM_HEADERS and is_header_text(value)
        },
        tuple(headers),
        _find_shape(headers, body, order),
    )


def _find_shape(headers: Mapping[str, str], body: Mapping[str, Any], order: Sequence[str]) -> RequestShape:
    claims = read_claims(headers, body, order)
    client = body.get("client_metadata")
    return RequestShape(
        headers=frozenset(headers),
        body_keys=tuple(body),
        turn_metadata=tuple(claims.turn_metadata),
        client_metadata=frozenset(client if isinstance(client, dict) else ()),
    )
