"""A message of a codex CLI on a WebSocket, as the request that it would have posted instead."""

from collections.abc import Mapping
from typing import Any

from floway_codex.identity.turns import TURN_STATE

HEADER_FIELD = "ws_request_header_"
"""The beginning of keys of ``client_metadata`` that stand for a header: its name follows, with underscores."""

CLI_HEADERS = ("x-codex-", "x-oai-", "x-openai-", "x-responsesapi-")
"""Beginnings of the names of headers that only a codex CLI sends."""

DROPPED = ("x-codex-ws-stream-request-start-ms",)
"""Keys of ``client_metadata`` that exist over a WebSocket only."""


def as_posted(headers: Mapping[str, str], body: Mapping[str, Any]) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """Return headers and body of the request that the CLI would have posted.

    :param headers: those of the upgrade, names in lower case.
    :param body: the content of the message.
    """
    client = body.get("client_metadata")
    if not isinstance(client, dict):
        return headers, body
    names = {key: _header_name(key) for key in client}
    moved = {name: client[key] for key, name in names.items() if name and isinstance(client[key], str)}
    remaining = {key: value for key, value in client.items() if names[key] is None and key not in DROPPED}
    return {**headers, **moved}, {**body, "client_metadata": remaining}


def _header_name(key: str) -> str | None:
    """Return the header that a key of ``client_metadata`` stands for; None if it stands for none."""
    if key == TURN_STATE:
        return key
    name = key.removeprefix(HEADER_FIELD).replace("_", "-").lower()
    return name if key.startswith(HEADER_FIELD) and name.startswith(CLI_HEADERS) else None
