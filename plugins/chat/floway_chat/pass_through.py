"""Pass requests of chat clients through to chat servers. Only the name of the model changes."""

import json
import re
from typing import Any

from floway_chat import NAME
from floway_chat.quirks import Quirks
from floway_chat.requests.schema import find_untranslatable_answer
from floway_chat.requests.to_chat import write_request
from floway_core.contexts import DialectRequest, ResponsesRequestContext
from floway_core.protocol import jsontext
from floway_core.provider import UpstreamResponse

JSON, EVENT_STREAM = "application/json", "text/event-stream"


def is_possible(ctx: ResponsesRequestContext) -> bool:
    """Return whether the client speaks Chat Completions."""
    request = ctx.attempt.request
    return request.dialect == NAME and request.original is not None


def hides_usage(ctx: ResponsesRequestContext) -> bool:
    """Return whether the gateway requests the usage and hides it from the client, which has not requested it.

    Without it, the token limit of a key would not hold.
    """
    request = ctx.attempt.request
    if not request.stream or request.api_key.limits.tokens_per_day is None:
        return False
    return not (_original(ctx).body.get("stream_options") or {}).get("include_usage")


def is_misformatted(ctx: ResponsesRequestContext, response: UpstreamResponse) -> bool:
    """Return whether the server sends a document instead of a stream, or a stream instead of a document.

    Some servers ignore ``stream``. The client can read only the form that it has requested.
    """
    if find_untranslatable_answer(_original(ctx).body):
        return False
    content_type = (response.header("content-type") or "").partition(";")[0].strip().lower()
    return content_type == (JSON if ctx.attempt.request.stream else EVENT_STREAM)


def write_body(ctx: ResponsesRequestContext, quirks: Quirks) -> dict[str, Any]:
    """Return the body for the server: the client's, with the server's name of the model, and the alias's overrides."""
    body = {**_original(ctx).body, "model": ctx.attempt.model}
    if hides_usage(ctx):
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    if overrides := _find_overrides(ctx):
        translation = write_request({"model": ctx.attempt.model, **overrides}, quirks)
        if "reasoning" in overrides:
            body = {name: value for name, value in body.items() if name not in EFFORT_FIELDS}
        for name in translation.body.keys() - {"messages", "model"}:
            value, client_value = translation.body[name], body.get(name)
            body[name] = (
                {**client_value, **value} if isinstance(value, dict) and isinstance(client_value, dict) else value
            )
    return body


EFFORT_FIELDS = ("reasoning", "reasoning_effort")
"""Fields by which clients set the effort."""


def _find_overrides(ctx: ResponsesRequestContext) -> dict[str, Any]:
    """Return what the alias has changed, as fields of the Responses API."""
    overrides: dict[str, Any] = {}
    for name, part in (("reasoning", "effort"), ("text", "verbosity")):
        if ctx.body.get(name) != ctx.attempt.request.body.get(name):
            overrides[name] = {part: ctx.body[name][part]}
    if ctx.body.get("service_tier") != ctx.attempt.request.body.get("service_tier"):
        overrides["service_tier"] = ctx.body["service_tier"]
    return overrides


def encode_original(ctx: ResponsesRequestContext) -> bytes:
    """Encode the body: the client's bytes, if the gateway has changed nothing."""
    original = _original(ctx)
    if not _is_unambiguous(original.raw):
        return jsontext.dumps(ctx.body)
    if ctx.body == original.body:
        return original.raw
    if {**ctx.body, "model": original.body["model"]} == original.body:
        name = jsontext.dumps(original.body["model"])
        pattern = rb'("model"\s*:\s*)' + re.escape(name)
        content, count = re.subn(pattern, lambda match: match[1] + jsontext.dumps(ctx.body["model"]), original.raw)
        if count == 1:
            return content
    return jsontext.dumps(ctx.body)


_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_DECISIVE = (b'"model"', b'"stream_options"', b'"include_usage"')
"""Names of fields that the gateway's decisions depend on."""


def _is_unambiguous(raw: bytes) -> bool:
    """Return whether every server reads a body in the same way as the gateway.

    If a field occurs twice, some servers use the first. Without escaped letters, which no client sends, a search for
    the names suffices.
    """
    if _ESCAPED_LETTER.search(raw):
        return False
    if all(raw.count(name) <= 1 for name in _DECISIVE):
        return True
    try:
        json.loads(raw, object_pairs_hook=_unique)
    except ValueError:
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice")


def _original(ctx: ResponsesRequestContext) -> DialectRequest:
    original = ctx.attempt.request.original
    assert original  # is_possible has checked it
    return original
