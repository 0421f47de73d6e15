"""Reading content and arguments in items of the Responses API, for providers that translate them into another API."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from floway_core.errors import GatewayError
from floway_core.protocol import jsontext

TEXTS = ("input_text", "output_text", "text", "summary_text")
"""Types of the parts that have a text."""

Part = TypeVar("Part")


@dataclass(frozen=True)
class ContentConverter(Generic[Part]):
    """Converts contents to lists of parts of another API."""

    api: str
    """What error messages call the other API, such as ``the Messages API``."""
    text: Callable[[str], Part | None]
    """Converts a text; None: there is no part for it, because it is empty."""
    image: Callable[[str], Part]
    """Converts an image, of which it gets the URL; that may be a ``data:`` URL."""
    file: Callable[[str, str | None], Part]
    """Converts a file, of which it gets the URL or the content in base64, and the name if there is one."""

    def convert(self, content: Any, path: str) -> list[Part]:
        """Convert the content of a message, or the output of a tool: a text, a list of parts, or any JSON value.

        :param path: where the content is in the request, for error messages.
        :raises GatewayError: 400: the other API has nothing for a part.
        """
        if isinstance(content, list):
            pairs = [(f"{path}[{index}]", part) for index, part in enumerate(content) if isinstance(part, dict)]
            parts = [self._convert_part(part, part_path) for part_path, part in pairs]
        elif isinstance(content, str):
            parts = [self.text(content)]
        else:
            parts = [] if content is None else [self.text(jsontext.dumps(content).decode())]
        return [part for part in parts if part is not None]

    def _convert_part(self, part: Mapping[str, Any], path: str) -> Part | None:
        kind = part.get("type")
        if kind in TEXTS or kind == "refusal":
            text = part.get("refusal" if kind == "refusal" else "text")
            return self.text(text) if isinstance(text, str) else None
        if kind == "input_image":
            return self.image(self._read_url(part.get("image_url"), "An image", path))
        if kind == "input_file":
            url = self._read_url(part.get("file_url") or part.get("file_data"), "A file", path)
            name = part.get("filename")
            return self.file(url, name if isinstance(name, str) else None)
        raise self._not_supported(path, f"A part of type {kind!r}")

    def _read_url(self, url: Any, subject: str, path: str) -> str:
        if not isinstance(url, str):
            raise self._not_supported(path, f"{subject} that is not in the request")
        return url

    def _not_supported(self, path: str, subject: str) -> GatewayError:
        message = f"{subject} is not supported by upstreams with {self.api}."
        return GatewayError(400, message, code="unsupported_value", param=path)


def read_arguments(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of a call; None if they are no JSON object, perhaps because they are cut off.

    The text of a freeform call becomes the field ``input``.
    """
    if item.get("type") == "custom_tool_call":
        return {"input": str(item.get("input") or "")}
    try:
        arguments = jsontext.loads(str(item.get("arguments") or "{}").encode("utf-8", "replace"))
    except ValueError:
        return None
    return arguments if isinstance(arguments, dict) else None


def split_data_url(url: str) -> tuple[str, str] | None:
    """Return media type and base64 content of a ``data:`` URL; None if it is another URL."""
    head, _, data = url.partition(",")
    if head.startswith("data:") and head.endswith(";base64"):
        return head.removeprefix("data:").removesuffix(";base64"), data
    return None
