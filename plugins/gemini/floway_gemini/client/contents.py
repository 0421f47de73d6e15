"""Convert ``contents`` of the generateContent API to items of the Responses API.

Equal contents become equal items, however a client divides the texts into parts: nothing is generated. So the gateway
recognises a history, and an upstream finds the start of the request in its cache.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from floway_core.protocol import jsontext
from floway_gemini import thoughts
from floway_gemini.client import media
from floway_gemini.client.names import call_id_of, to_tool_name
from floway_gemini.fields import Message, find, invalid, invalid_type

Part = dict[str, Any]
Item = dict[str, Any]

ROLES = ("user", "model", "function", "tool")
SERVER_TOOL_PARTS = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
"""Parts of tools that ran on another server. They are dropped: the text after them contains the outcome."""
DATA = ("text", "functionCall", "functionResponse", "inlineData", "fileData", *SERVER_TOOL_PARTS)
"""Fields of a part. It must have one of them."""


def read_contents(request: Message) -> list[Item]:
    """Convert ``contents``.

    :raises Untranslatable: they hold what only an upstream with this API understands.
    :raises GatewayError: 400, something is malformed.
    """
    converter = _ContentConverter()
    for content in request.messages("contents"):
        converter.add(content)
    return converter.finish()


def check_contents(request: Message) -> None:
    """Check the form of ``contents``.

    :raises GatewayError: 400, something is malformed.
    """
    contents = request.messages("contents")
    if not contents:
        raise invalid(request.path("contents"), "contents is not specified")
    for content in contents:
        role = content.text("role")
        if role and role not in ROLES:
            raise invalid(content.path("role"), "Please use a valid role: user, model.")
        if not content.messages("parts") and role != "model":
            raise invalid(content.path("parts"), "contents.parts must not be empty.")


def read_system_instruction(request: Message) -> str | None:
    """Convert ``systemInstruction``, which some clients send as a string.

    :returns: None if there is none.
    :raises GatewayError: 400, it is malformed.
    """
    value = request.get("systemInstruction")
    if isinstance(value, str):
        return value or None
    content = request.message("systemInstruction")
    texts = [part.text("text") for part in content.messages("parts")] if content else []
    return "\n\n".join(filter(None, texts)) or None


class _ContentConverter:
    """Converts content by content. Adjacent texts are joined, because clients may have split them."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._text: list[str] = []
        """The texts of the current model message."""
        self._parts: list[Part] = []
        """The parts of the current user message."""
        self._calls = 0
        self._open_calls: list[tuple[str, str]] = []
        """Id and name of the calls without a response, oldest first."""

    def add(self, content: Message) -> None:
        """Add a content."""
        is_model = content.text("role") == "model"
        if is_model:
            self._end_message()
        else:
            self._end_text()
        for part in content.messages("parts"):
            self._add_part(part, is_model=is_model)
        if not is_model:
            self._end_message()

    def finish(self) -> list[Item]:
        """Return the items."""
        self._end_text()
        self._end_message()
        return self._items

    def _add_part(self, part: Message, *, is_model: bool) -> None:
        if items := thoughts.decode_items(part.get("thoughtSignature")):
            self._end_text()
            self._items += items
        if part.flag("thought"):
            return
        name = next((name for name in DATA if part.get(name) is not None), None)
        if name is None:
            if not is_model and "thoughtSignature" not in part.fields:
                message = "required oneof field 'data' must have one initialized field"
                raise invalid(part.path("data"), message)
        elif name == "text":
            self._add_text(part.text("text") or "", is_model=is_model)
        elif name not in SERVER_TOOL_PARTS:
            self._end_text()
            _READERS[name](self, part)

    def _add_text(self, text: str, *, is_model: bool) -> None:
        if is_model:
            self._end_message()
            self._text.append(text)
        else:
            self._parts.append({"type": "input_text", "text": text})

    def _add_media(self, part: Message) -> None:
        """Add an image or a file. A generated one becomes part of a user message, too."""
        self._parts.append(media.read_part(part))

    def _add_call(self, part: Message) -> None:
        call = part.message("functionCall")
        assert call
        self._end_message()
        name = to_tool_name(call.required_text("name"))
        arguments = jsontext.dumps(_arguments(call)).decode()
        call_id = call_id_of(call) or self._derive_call_id(name, arguments)
        self._calls += 1
        self._open_calls.append((call_id, name))
        self._items.append({"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments})

    def _derive_call_id(self, name: str, arguments: str) -> str:
        """Return an id for a call without one. Equal calls get the same id."""
        digest = hashlib.sha256(f"{self._calls}\n{name}\n{arguments}".encode("utf-8", "surrogatepass")).hexdigest()
        return f"call_{digest[:24]}"

    def _add_response(self, part: Message) -> None:
        response = part.message("functionResponse")
        assert response
        self._end_message()
        call_id = self._match_call(response)
        self._items.append({"type": "function_call_output", "call_id": call_id, "output": _read_output(response)})

    def _match_call(self, response: Message) -> str:
        """Return the id of the call that a response answers. It is found by id, or else by name."""
        call_id, name = call_id_of(response), to_tool_name(response.text("name") or "")
        matches = [call for call in self._open_calls if (call[0] == call_id if call_id else call[1] == name)]
        if matches:
            self._open_calls.remove(matches[0])
            return matches[0][0]
        if call_id:
            return call_id
        message = (
            "Please ensure that the number of function response parts is equal to the number of function call parts."
        )
        raise invalid(response.path(), message)

    def _end_text(self) -> None:
        """End the model message."""
        text, self._text = "".join(self._text), []
        if text:
            self._items.append(_message("assistant", [{"type": "output_text", "text": text}]))

    def _end_message(self) -> None:
        """End the user message."""
        parts, self._parts = self._parts, []
        if parts:
            self._items.append(_message("user", parts))


_READERS: Mapping[str, Callable[[_ContentConverter, Message], None]] = {
    "functionCall": _ContentConverter._add_call,
    "functionResponse": _ContentConverter._add_response,
    "inlineData": _ContentConverter._add_media,
    "fileData": _ContentConverter._add_media,
}


def _message(role: str, parts: list[Part]) -> Item:
    return {"type": "message", "role": role, "content": parts}


def _arguments(call: Message) -> dict[str, Any]:
    arguments = call.message("args")
    return arguments.fields if arguments else {}


def _read_output(response: Message) -> str | list[Part]:
    """Convert the result of a function. As Google documents it, the field ``output`` is the output and ``error`` an
    error; without these fields, the whole object is the output."""
    value = response.get("response")
    if value is not None and not isinstance(value, dict):
        raise invalid_type(response.path("response"), "TYPE_STRUCT", value)
    fields = value or {}
    if set(fields) == {"output"}:
        text = _as_text(fields["output"])
    elif set(fields) == {"error"}:
        text = _mark_error(_as_text(fields["error"]))
    else:
        text = _as_text(fields) if fields else ""
    parts = [media.read_part(part) for part in response.messages("parts") if _has_media(part)]
    if not parts:
        return text
    return [*([{"type": "input_text", "text": text}] if text else []), *parts]


def _has_media(part: Message) -> bool:
    return any(find(part.fields, name) is not None for name in ("inlineData", "fileData"))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else jsontext.dumps(value).decode()


def _mark_error(text: str) -> str:
    return text if text.lower().startswith("error") else f"Error: {text}"
