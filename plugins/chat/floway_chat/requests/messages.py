"""Convert the messages of a chat request: each becomes one or more Responses items."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from floway_chat import reasoning
from floway_chat.fields import read_object, read_string, refuse_missing, refuse_type, refuse_value
from floway_core.errors import GatewayError

Item = dict[str, Any]


def read_messages(messages: list[dict[str, Any]]) -> list[Item]:
    """Convert the messages of a request.

    :param messages: objects.
    :raises GatewayError: 400, with the path of the field: ``messages[3].content``.
    """
    reader = _MessageReader()
    for index, message in enumerate(messages):
        role = message.get("role")
        read_message = _READERS.get(role) if isinstance(role, str) else None
        if read_message is None:
            refuse_value(f"messages[{index}].role", role, _READERS)
        read_message(reader, message, f"messages[{index}]")
    reader.check_answered()
    return reader.items


class _MessageReader:
    """Collects the items. Remembers calls until their outputs arrive."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._open: dict[str, str] = {}
        """The type of each call without an output, by call id."""
        self._function_calls: dict[str, str] = {}
        """The call id of each deprecated function call without an output, by function name."""
        self._open_path = ""
        """Path of the message with the open calls."""

    def read_instructions(self, message: Mapping[str, Any], path: str) -> None:
        """Read a message of the system or the developer."""
        self.check_answered()
        self._add_message(message, path, _TEXT)

    def read_user(self, message: Mapping[str, Any], path: str) -> None:
        """Read a message of the user."""
        self.check_answered()
        self._add_message(message, path, _USER_PARTS)

    def read_assistant(self, message: Mapping[str, Any], path: str) -> None:
        """Read a message of the assistant: its reasoning, text, refusal and calls."""
        self.check_answered()
        thoughts = reasoning.read_reasoning(message, path)
        self.items += thoughts
        content = message.get("content")
        parts = [] if content is None else _read_content(content, path, _ASSISTANT_PARTS, "output_text")
        if message.get("refusal") is not None:
            parts.append({"type": "refusal", "refusal": read_string(message, "refusal", path)})
        calls = list(self._read_calls(message, path))
        if parts and (len(parts) > 1 or parts[0].get("text") != "" or not calls):
            self.items.append({"type": "message", "role": "assistant", "content": parts})
        elif not (parts or calls or thoughts or message.get("audio")):
            refuse_missing(f"{path}.content")
        self.items += calls
        self._open_path = path

    def read_tool(self, message: Mapping[str, Any], path: str) -> None:
        """Read the output of a tool call."""
        call_id = read_string(message, "tool_call_id", path)
        kind = self._open.pop(call_id, None)
        if kind is None:
            _refuse_orphan("tool", "tool_calls", path)
        output = _read_output(message.get("content"), path)
        self.items.append({"type": f"{kind}_output", "call_id": call_id, "output": output})

    def read_function(self, message: Mapping[str, Any], path: str) -> None:
        """Read the output of a deprecated function call, which names the function instead of the call."""
        call_id = self._function_calls.pop(read_string(message, "name", path), None)
        if call_id is None:
            _refuse_orphan("function", "function_call", path)
        content = message.get("content")  # null means that the function returned nothing
        output = "" if content is None else _read_output(content, path)
        self.items.append({"type": "function_call_output", "call_id": call_id, "output": output})

    def check_answered(self) -> None:
        """Check that each call has an output.

        :raises GatewayError: 400.
        """
        if self._open:
            message = (
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(self._open)}"
            )
            raise GatewayError(400, message[:500], code="invalid_value", param=f"{self._open_path}.tool_calls")

    def _add_message(self, message: Mapping[str, Any], path: str, parts: "Mapping[str, _PartReader]") -> None:
        content = _read_content(message.get("content"), path, parts, "input_text")
        self.items.append({"type": "message", "role": message["role"], "content": content})

    def _read_calls(self, message: Mapping[str, Any], path: str) -> Iterator[Item]:
        calls = message.get("tool_calls")
        if calls is not None and not isinstance(calls, list):
            refuse_type(f"{path}.tool_calls", "an array of objects", calls)
        for index, call in enumerate(calls or ()):
            item = _read_call(call, f"{path}.tool_calls[{index}]")
            self._open[item["call_id"]] = item["type"]
            yield item
        if message.get("function_call") is not None:
            item = _read_function_call(read_object(message, "function_call", path), f"{path}.function_call")
            item["call_id"] = _derive_call_id(len(self.items), item["name"])
            self._function_calls[item["name"]] = item["call_id"]
            yield item


_READERS: Mapping[str, Callable[[_MessageReader, Mapping[str, Any], str], None]] = {
    "system": _MessageReader.read_instructions,
    "assistant": _MessageReader.read_assistant,
    "user": _MessageReader.read_user,
    "function": _MessageReader.read_function,
    "tool": _MessageReader.read_tool,
    "developer": _MessageReader.read_instructions,
}
"""By role."""


# ------------------------------------------------------------------------------------------------------------- calls
def _read_call(call: Any, path: str) -> Item:
    """Read one of ``tool_calls``."""
    if not isinstance(call, dict):
        refuse_type(path, "an object", call)
    kind = call.get("type", "function")
    if kind not in ("function", "custom"):
        refuse_value(f"{path}.type", kind, ("function", "custom"))
    call_id = read_string(call, "id", path)
    if kind == "function":
        function = _read_function_call(read_object(call, "function", path), f"{path}.function")
        return {**function, "call_id": call_id}
    custom = read_object(call, "custom", path)
    name, value = (read_string(custom, field, f"{path}.custom") for field in ("name", "input"))
    return {"type": "custom_tool_call", "name": name, "input": value, "call_id": call_id}


def _read_function_call(function: Mapping[str, Any], path: str) -> Item:
    name, arguments = (read_string(function, field, path) for field in ("name", "arguments"))
    return {"type": "function_call", "name": name, "arguments": arguments}


def _read_output(content: Any, path: str) -> str | list[Item]:
    """Read the content of a tool's message: a text, or parts."""
    if isinstance(content, str):
        return content
    parts = _read_content(content, path, _OUTPUT_PARTS, "input_text")
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "input_text" else parts


def _refuse_orphan(role: str, field: str, path: str) -> NoReturn:
    message = (
        f"Invalid parameter: messages with role '{role}' must be a response to a preceding message with '{field}'."
    )
    raise GatewayError(400, message, code="invalid_value", param=f"{path}.role")


def _derive_call_id(position: int, name: str) -> str:
    """Return the id of a call that has none. The same history gives the same id in every request."""
    return f"call_{hashlib.sha256(f'{position} {name}'.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


# ------------------------------------------------------------------------------------------------------------- parts
_PartReader = Callable[[Mapping[str, Any], str], Item]


def _read_content(content: Any, path: str, readers: Mapping[str, _PartReader], text_type: str) -> list[Item]:
    """Read the content of a message.

    :param path: path of the message.
    :param readers: the parts that its role may have, by type.
    :param text_type: the type that its texts get.
    """
    if isinstance(content, str):
        return [{"type": text_type, "text": content}]
    path = f"{path}.content"
    if content is None:
        refuse_missing(path)
    if not isinstance(content, list):
        refuse_type(path, "a string or an array of objects", content)
    parts = []
    for index, part in enumerate(content):
        if not isinstance(part, dict):
            refuse_type(f"{path}[{index}]", "an object", part)
        kind = part.get("type")
        read_part = readers.get(kind) if isinstance(kind, str) else None
        if read_part is None:
            refuse_value(f"{path}[{index}].type", kind, readers)
        parts.append(read_part(part, f"{path}[{index}]"))
    return [{**part, "type": text_type} if part["type"] == "text" else part for part in parts]


def _read_text(part: Mapping[str, Any], path: str) -> Item:
    return {"type": "text", "text": read_string(part, "text", path)}


def _read_refusal(part: Mapping[str, Any], path: str) -> Item:
    return {"type": "refusal", "refusal": read_string(part, "refusal", path)}


def _read_image(part: Mapping[str, Any], path: str) -> Item:
    image = read_object(part, "image_url", path)
    url, detail = read_string(image, "url", f"{path}.image_url"), image.get("detail")
    if detail is not None and detail not in _DETAILS:
        refuse_value(f"{path}.image_url.detail", detail, _DETAILS)
    return {"type": "input_image", "image_url": url, "detail": detail or "auto"}


def _read_audio(part: Mapping[str, Any], path: str) -> Item:
    audio, path = read_object(part, "input_audio", path), f"{path}.input_audio"
    data, format = (read_string(audio, name, path) for name in ("data", "format"))
    return {"type": "input_audio", "input_audio": {"data": data, "format": format}}


def _read_file(part: Mapping[str, Any], path: str) -> Item:
    file, path = read_object(part, "file", path), f"{path}.file"
    fields = {name: read_string(file, name, path) for name in _FILE_FIELDS if file.get(name) is not None}
    if not fields.keys() & {"file_id", "file_data"}:
        refuse_missing(f"{path}.file_id")
    return {"type": "input_file", **fields}


_DETAILS = ("low", "high", "auto", "original")
_FILE_FIELDS = ("file_id", "filename", "file_data")

_TEXT: Mapping[str, _PartReader] = {"text": _read_text}
_USER_PARTS: Mapping[str, _PartReader] = {
    "text": _read_text,
    "image_url": _read_image,
    "input_audio": _read_audio,
    "file": _read_file,
}
_OUTPUT_PARTS: Mapping[str, _PartReader] = {"text": _read_text, "image_url": _read_image, "file": _read_file}
_ASSISTANT_PARTS: Mapping[str, _PartReader] = {"text": _read_text, "refusal": _read_refusal}
"""The parts of each kind of message, by type."""
