"""Errors for chat clients: OpenAI's form, with the names of the fields that a chat request has."""

import re
from collections.abc import Mapping
from typing import Any

from floway_core.errors import GatewayError
from floway_core.protocol import jsontext

_CHAT_NAMES = {
    "input": "messages",
    "max_output_tokens": "max_completion_tokens",
    "reasoning.effort": "reasoning_effort",
    "reasoning": "reasoning_effort",
    "text.format": "response_format",
    "text.verbosity": "verbosity",
    "text": "response_format",
}
"""The names of chat fields by those of the Responses API."""

_INPUT_PATH = re.compile(r"input\[.*")
"""A path into ``input``. The positions of messages differ, so an error can name only the field itself."""


def error_object(error: GatewayError) -> dict[str, Any]:
    """Return the error object for an error of the gateway or of an upstream."""
    body: dict[str, Any] = error.body()["error"]
    return {**body, "param": chat_name(body.get("param"))}


def event_error(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the error object for an ``error`` or a ``response.failed`` event."""
    response = event.get("response")
    for holder in (event, response):
        error = holder.get("error") if isinstance(holder, dict) else None
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            kind = error.get("type")
            return {
                "message": error["message"],
                "type": kind if isinstance(kind, str) else "server_error",
                "param": chat_name(error.get("param")),
                "code": error.get("code"),
            }
    return {"message": "The upstream failed.", "type": "server_error", "param": None, "code": "upstream_failed"}


def chat_name(param: Any) -> str | None:
    """Return the chat field for the path of a field in a Responses request."""
    if not isinstance(param, str):
        return None
    if _INPUT_PATH.fullmatch(param):
        return "messages"
    return _CHAT_NAMES.get(param, param)


def is_complete(content: bytes) -> bool:
    """Return whether an error body of a server has OpenAI's form, which clients can read."""
    try:
        body = jsontext.loads(content)
    except ValueError:
        return False
    error = body.get("error") if isinstance(body, dict) else None
    return isinstance(error, dict) and isinstance(error.get("message"), str) and isinstance(error.get("type"), str)
