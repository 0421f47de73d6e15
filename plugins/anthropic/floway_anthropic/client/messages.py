"""Convert a complete response object of the Responses API to a message of the Messages API."""

from collections.abc import Iterator, Mapping
from typing import Any

from floway_anthropic import blocks, search, thinking, usage
from floway_anthropic.blocks import Block
from floway_anthropic.client.stops import stop_fields
from floway_anthropic.client.view import ClientView
from floway_core.protocol.items import TOOL_CALL_TYPES
from floway_core.protocol.stop_sequences import StopScanner
from floway_core.upstream.content import read_arguments


def message_id(response: Mapping[str, Any]) -> str:
    """Return the id of the message for a response."""
    return "msg_" + str(response.get("id") or "").removeprefix("resp_")


def empty_message(response: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return the message for ``message_start``, without content.

    :param model: the name that the client requested.
    """
    return {
        "id": message_id(response),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage.to_messages(response.get("usage")),
    }


def to_message(response: dict[str, Any], view: ClientView) -> dict[str, Any]:
    """Convert a response object."""
    output = response.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    content, stop_sequence = _cut_at_stop(_without_hidden_end(list(_to_blocks(items, view))), view)
    refusals = [part.get("refusal") for item in items for part in blocks.parts(item) if part.get("type") == "refusal"]
    searches = sum(item.get("type") == search.CALL for item in items)
    counts = usage.to_messages(response.get("usage"), searches=searches)
    counts["service_tier"] = usage.SERVICE_TIERS.get(str(response.get("service_tier")), "standard")
    reason = stop_fields(
        response,
        calls_tool=any(block["type"] == "tool_use" for block in content),
        refusal=str(refusals[0]) if refusals else None,
        stop_sequence=stop_sequence,
    )
    return {**empty_message(response, view.model), "content": content, **reason, "usage": counts}


def _to_blocks(items: list[dict[str, Any]], view: ClientView) -> Iterator[Block]:
    for item in items:
        kind = item.get("type")
        if kind == "message":
            yield from filter(None, map(blocks.text_block, blocks.parts(item)))
        elif kind == "reasoning" and view.shows_thinking:
            yield thinking.to_block(item, shows_text=view.shows_thinking_text)
        elif kind in TOOL_CALL_TYPES:
            yield blocks.tool_use_block(item, read_arguments(item))
        elif kind == search.CALL:
            yield search.use_block(item)
            yield search.result_block(item, _citations(items))


def _without_hidden_end(content: list[Block]) -> list[Block]:
    """Drop thinking without text at the end, unless there is nothing else."""
    end = max((index + 1 for index, block in enumerate(content) if not thinking.is_hidden(block)), default=0)
    return content[:end] or content


def _citations(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [annotation for item in items for part in blocks.parts(item) for annotation in blocks.annotations(part)]


def _cut_at_stop(content: list[Block], view: ClientView) -> tuple[list[Block], str | None]:
    """Drop everything from the first stop sequence on; return the blocks and the sequence."""
    if not view.stop_sequences:
        return content, None
    remaining: list[Block] = []
    for block in content:
        if block["type"] != "text":
            remaining.append(block)
            continue
        scanner = StopScanner(view.stop_sequences)
        text = scanner.feed(block["text"])
        if scanner.match is None:
            remaining.append(block)
            continue
        return [*remaining, *([{**block, "text": text}] if text else [])], scanner.match
    return remaining, None
