"""Convert ``messages`` of the Messages API to items of the Responses API.

Equal messages become equal items: nothing is generated, and marks (``cache_control``) that clients move between
requests have no effect. So the gateway recognises a history, and an upstream finds the request's start in its cache.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from floway_anthropic import search, thinking
from floway_anthropic.client.values import invalid, read_flag, read_list, read_object, read_objects, read_text
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext

Part = dict[str, Any]
Item = dict[str, Any]

ROLES = ("user", "assistant", "system")
ERROR_PREFIX = "Error: "
"""Start of the output of a tool that failed: the Responses API has no field for a failure."""


class Untranslatable(GatewayError):
    """Part of a request can only be served by an upstream with the Messages API."""

    def __init__(self, path: str, subject: str) -> None:
        """:param subject: what is not supported, such as "The tool type 'x'"."""
        message = f"{subject} is not supported by this model, which is not served through the Messages API."
        super().__init__(400, message, param=path)


# ------------------------------------------------------------------------------------------------------------ messages
def read_messages(value: Any) -> list[Item]:
    """Convert ``messages``.

    :raises Untranslatable: the messages hold what only an upstream with the Messages API understands.
    :raises GatewayError: 400, something is malformed.
    """
    items: list[Item] = []
    for path, message in read_objects(value, "messages"):
        role = message.get("role")
        if role not in ROLES:
            raise invalid(f"{path}.role", f"Input should be {', '.join(map(repr, ROLES))}.")
        items += _READERS[role](message.get("content"), f"{path}.content")
    return items


def check_messages(value: Any) -> None:
    """Check the form of ``messages`` without their blocks.

    :raises GatewayError: 400, something is malformed.
    """
    for path, message in read_objects(value, "messages"):
        content = message.get("content")
        if content is None:
            raise invalid(f"{path}.content", "Field required.")
        for block_path, block in read_blocks(content, f"{path}.content"):
            read_text(block.get("type"), f"{block_path}.type")
    if not value:
        raise invalid("messages", "At least one message is required.")


def read_blocks(content: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the blocks of a content, each after its path. A string is one text block.

    :raises GatewayError: 400, it is neither a string nor an array of objects.
    """
    if isinstance(content, str):
        yield path, {"type": "text", "text": content}
    elif isinstance(content, list):
        yield from read_objects(content, path)
    else:
        raise invalid(path, "Input should be a valid string or list." if content is not None else "Field required.")


def _read_user(content: Any, path: str) -> Iterator[Item]:
    """Convert a user message. Each tool result becomes an item, and the blocks between them a message."""
    parts: list[Part] = []
    for block_path, block in read_blocks(content, path):
        if block.get("type") == "tool_result":
            if parts:
                yield _message("user", parts)
                parts = []
            yield _read_tool_result(block, block_path)
        else:
            parts += read_parts(block, block_path)
    if parts:
        yield _message("user", parts)


def _read_system(content: Any, path: str) -> Iterator[Item]:
    """Convert instructions in the middle of a conversation."""
    texts = [read_text(block.get("text"), f"{block_path}.text") for block_path, block in read_blocks(content, path)]
    if any(texts):
        yield _message("developer", [_text_part(text) for text in texts])


def _read_assistant(content: Any, path: str) -> Iterator[Item]:
    """Convert an assistant message: one item for each block."""
    searches: dict[str, Item] = {}
    for block_path, block in read_blocks(content, path):
        kind = read_text(block.get("type"), f"{block_path}.type")
        if kind == "server_tool_use" and block.get("name") == search.NAME:
            call = searches[read_text(block.get("id"), f"{block_path}.id")] = search.to_item(block)
            yield call
        elif kind == search.RESULT:
            search.restore(searches.get(str(block.get("tool_use_id"))), block)
        elif kind in _ASSISTANT_BLOCKS:
            read_item = _ASSISTANT_BLOCKS[kind]
            if read_item and (item := read_item(block, block_path)):
                yield item
        elif not kind.endswith("_tool_result"):
            raise Untranslatable(block_path, f"A block of type {kind!r}")


_READERS: Mapping[str, Callable[[Any, str], Iterator[Item]]] = {
    "user": _read_user,
    "assistant": _read_assistant,
    "system": _read_system,
}


def _message(role: str, parts: list[Part]) -> Item:
    return {"type": "message", "role": role, "content": parts}


# ------------------------------------------------------------------------------------------- blocks of the assistant
def _read_assistant_text(block: dict[str, Any], path: str) -> Item | None:
    text = read_text(block.get("text"), f"{path}.text")
    return _message("assistant", [{"type": "output_text", "text": text}]) if text else None


def _read_tool_use(block: dict[str, Any], path: str) -> Item:
    arguments = read_object(block.get("input"), f"{path}.input")
    return {
        "type": "function_call",
        "call_id": read_text(block.get("id"), f"{path}.id"),
        "name": read_text(block.get("name"), f"{path}.name"),
        "arguments": jsontext.dumps(arguments).decode(),
    }


def _read_compaction(block: dict[str, Any], path: str) -> Item | None:
    """Convert the summary that an upstream with the Messages API made when it compacted the conversation."""
    text = block.get("content")
    return _message("assistant", [{"type": "output_text", "text": text}]) if text and isinstance(text, str) else None


_ASSISTANT_BLOCKS: Mapping[str, Callable[[dict[str, Any], str], Item | None] | None] = {
    "text": _read_assistant_text,
    "thinking": lambda block, path: thinking.to_item(block),
    "redacted_thinking": lambda block, path: thinking.to_item(block),
    "tool_use": _read_tool_use,
    "compaction": _read_compaction,
    # tools that ran on another server: the text after them contains the outcome
    "server_tool_use": None,
    "mcp_tool_use": None,
    "container_upload": None,
    "fallback": None,
}
"""By type of block: the function that converts it to an item; None if the block is dropped."""


# ------------------------------------------------------------------------------------------------ blocks of the user
def read_parts(block: dict[str, Any], path: str) -> list[Part]:
    """Convert a block of a user message or of a tool result to parts of a message.

    :raises Untranslatable: only an upstream with the Messages API understands it.
    :raises GatewayError: 400, it is malformed.
    """
    kind = read_text(block.get("type"), f"{path}.type")
    if kind not in _USER_BLOCKS:
        raise Untranslatable(path, f"A block of type {kind!r}")
    return _USER_BLOCKS[kind](block, path)


def _read_all_parts(content: Any, path: str) -> list[Part]:
    return [part for block_path, block in read_blocks(content, path) for part in read_parts(block, block_path)]


def _text_part(text: str) -> Part:
    return {"type": "input_text", "text": text}


def _read_text_block(block: dict[str, Any], path: str) -> list[Part]:
    return [_text_part(read_text(block.get("text"), f"{path}.text"))]


def _read_image(block: dict[str, Any], path: str) -> list[Part]:
    source = read_object(block.get("source"), f"{path}.source")
    match source.get("type"):
        case "base64":
            url = _data_url(source, f"{path}.source")
        case "url":
            url = read_text(source.get("url"), f"{path}.source.url")
        case kind:
            raise Untranslatable(f"{path}.source", f"An image source of type {kind!r}")
    return [{"type": "input_image", "image_url": url, "detail": "auto"}]


def _data_url(source: dict[str, Any], path: str) -> str:
    media_type = read_text(source.get("media_type"), f"{path}.media_type")
    return f"data:{media_type};base64,{read_text(source.get('data'), f'{path}.data')}"


def _read_document(block: dict[str, Any], path: str) -> list[Part]:
    source = read_object(block.get("source"), f"{path}.source")
    title = block.get("title") if isinstance(block.get("title"), str) else None
    context = block.get("context") if isinstance(block.get("context"), str) else None
    match source.get("type"):
        case "base64":
            data = _data_url(source, f"{path}.source")
            parts = [{"type": "input_file", "filename": title or "document.pdf", "file_data": data}]
        case "url":
            parts = [{"type": "input_file", "file_url": read_text(source.get("url"), f"{path}.source.url")}]
        case "text":
            parts = [_text_part(read_text(source.get("data"), f"{path}.source.data"))]
        case "content":
            parts = _read_all_parts(source.get("content"), f"{path}.source.content")
        case kind:
            raise Untranslatable(f"{path}.source", f"A document source of type {kind!r}")
    heading = "\n".join(filter(None, (title and f"Document: {title}", context)))
    return [_text_part(heading), *parts] if heading else parts


def _read_search_result(block: dict[str, Any], path: str) -> list[Part]:
    """Convert a result of a search that the client made itself."""
    texts = [read_text(inner.get("text"), block_path) for block_path, inner in read_blocks(block.get("content"), path)]
    heading = f"Search result: {block.get('title') or ''} ({block.get('source') or ''})"
    return [_text_part("\n".join([heading, *texts]))]


def _read_tool_reference(block: dict[str, Any], path: str) -> list[Part]:
    """Convert a result of a tool search. All tools of a request are loaded, so its name is enough."""
    return [_text_part(f"The tool {read_text(block.get('tool_name'), f'{path}.tool_name')} is available.")]


_USER_BLOCKS: Mapping[str, Callable[[dict[str, Any], str], list[Part]]] = {
    "text": _read_text_block,
    "image": _read_image,
    "document": _read_document,
    "search_result": _read_search_result,
    "tool_reference": _read_tool_reference,
}


# ----------------------------------------------------------------------------------------------------------- results
def _read_tool_result(block: dict[str, Any], path: str) -> Item:
    call_id = read_text(block.get("tool_use_id"), f"{path}.tool_use_id")
    content = block.get("content")
    parts = [] if content is None else _read_all_parts(content, f"{path}.content")
    output: str | list[Part] = parts
    if all(part["type"] == "input_text" for part in parts):
        output = "\n".join(part["text"] for part in parts)
    if read_flag(block.get("is_error"), f"{path}.is_error"):
        output = _mark_error(output)
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def _mark_error(output: str | list[Part]) -> str | list[Part]:
    if isinstance(output, list):
        return [_text_part(ERROR_PREFIX.strip()), *output]
    return output if output.lower().startswith("error") else ERROR_PREFIX + output


def read_system(value: Any) -> str | None:
    """Convert ``system`` to instructions.

    Claude Code starts with a block for Anthropic's billing that changes with each request. It is dropped: no model
    needs it, and an upstream would never find the start of the request in its cache.

    :returns: None if there is none.
    :raises GatewayError: 400, it is malformed.
    """
    if value is None or isinstance(value, str):
        return value or None
    read_list(value, "system")
    texts = [read_text(block.get("text"), f"{path}.text") for path, block in read_objects(value, "system")]
    return "\n\n".join(text for text in texts if text and not text.startswith(BILLING_HEADER)) or None


BILLING_HEADER = "x-anthropic-billing-header:"
