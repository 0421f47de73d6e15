"""Pass requests of Messages API clients through to upstreams of the same API."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from floway_anthropic import search, thinking
from floway_anthropic.upstream.history import decode_thinking
from floway_core.contexts import DialectRequest, ResponsesRequestContext
from floway_core.protocol import jsontext, signatures

Block = dict[str, Any]

VERSION = "2023-06-01"
"""``anthropic-version`` of requests that do not come from a client of the Messages API."""

HEADER_PREFIX = "anthropic-"
"""The prefix of the client's headers that the upstream gets."""

_MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')
_THINKING = ("thinking", "redacted_thinking")


def is_overridden(ctx: ResponsesRequestContext) -> bool:
    """Return whether an alias has changed fields of the request.

    They are fields of the Responses API, so they cannot be changed in the client's original request.
    """
    original = ctx.attempt.request.body
    return any(original.get(name) != value for name, value in ctx.body.items() if name not in ("model", "input"))


def upstream_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a client that the upstream gets.

    :param headers: names in lower case.
    """
    client_headers = {name: value for name, value in headers.items() if name.startswith(HEADER_PREFIX)}
    return {"anthropic-version": VERSION, **client_headers}


def query_string(request: DialectRequest) -> str:
    """Return the query of a request with its question mark; ``""`` if it has none."""
    return f"?{urlencode(request.query)}" if request.query else ""


def write_body(request: DialectRequest, model: str) -> bytes:
    """Return the body for the upstream: the client's bytes if nothing has to change.

    :param model: the name that the upstream uses.
    """
    body = request.body
    if signatures.MARK.encode() in request.raw:
        cleaned = without_foreign_blocks(body)
        if cleaned is not body:
            return jsontext.dumps({**cleaned, "model": model})
    if body.get("model") == model:
        return request.raw
    changed = {**body, "model": model}
    matches = list(_MODEL.finditer(request.raw))
    for match in matches:
        candidate = b'%b"model":%b%b' % (
            request.raw[: match.start()],
            jsontext.dumps(model),
            request.raw[match.end() :],
        )
        if len(matches) == 1 or jsontext.loads(candidate) == changed:  # else the match is another field with this name
            return candidate
    return jsontext.dumps(changed)


def without_foreign_blocks(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request without blocks that Floway made from answers of other upstreams: this one would refuse them.

    Translated thinking of upstreams of this kind gets its original form.

    :returns: the same object if there are no such blocks.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body
    cleaned = [_clean_message(message) for message in messages]
    if all(new is old for new, old in zip(cleaned, messages, strict=True)):
        return body
    return {**body, "messages": [message for message in cleaned if message.get("content") != []]}


def _clean_message(message: Any) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list) or message.get("role") != "assistant":
        return message
    searches = {block.get("tool_use_id") for block in content if isinstance(block, dict) and _is_own_search(block)}
    cleaned = [_clean_block(block, searches) for block in content]
    if all(new is old for new, old in zip(cleaned, content, strict=True)):
        return message
    return {**message, "content": [block for block in cleaned if block is not None]}


def _clean_block(block: Any, searches: set[Any]) -> Any:
    """Return the block for the upstream; None to drop it."""
    if not isinstance(block, dict):
        return block
    if block.get("type") in _THINKING and signatures.is_own(block.get("signature") or block.get("data")):
        item = thinking.to_item(block)
        return decode_thinking(item.get("encrypted_content")) if item else None
    if block.get("type") == "text" and isinstance(block.get("citations"), list):
        return _clean_citations(block)
    if block.get("type") == "server_tool_use" and block.get("id") in searches:
        return None
    return None if _is_own_search(block) else block


def _clean_citations(block: Block) -> Block:
    """Return a text without citations from other upstreams: they have no index that this one can read."""
    citations = [cite for cite in block["citations"] if not isinstance(cite, dict) or cite.get("encrypted_index") != ""]
    if len(citations) == len(block["citations"]):
        return block
    other_fields = {name: value for name, value in block.items() if name != "citations"}
    return {**other_fields, "citations": citations} if citations else other_fields


def _is_own_search(block: Block) -> bool:
    """Return whether a block has the results of a search that another upstream has made."""
    content = block.get("content")
    first = content[0] if block.get("type") == search.RESULT and isinstance(content, list) and content else None
    return isinstance(first, dict) and signatures.is_own(first.get("encrypted_content"))
