"""Convert inline data and files to parts of messages of the Responses API."""

import base64
import binascii
from typing import Any

from floway_gemini.client.untranslatable import Untranslatable
from floway_gemini.fields import Message, invalid, invalid_type

Part = dict[str, Any]

PDF = "application/pdf"
DETAILS = {"MEDIA_RESOLUTION_LOW": "low", "MEDIA_RESOLUTION_HIGH": "high", "MEDIA_RESOLUTION_ULTRA_HIGH": "high"}
"""``mediaResolution`` of a part -> detail of an image; others are ``auto``."""
_STANDARD = str.maketrans("-_", "+/")


def read_part(part: Message) -> Part:
    """Convert a part with ``inlineData`` or ``fileData``.

    :raises Untranslatable: only an upstream with this API understands it.
    :raises GatewayError: 400, it is malformed.
    """
    inline = part.message("inlineData")
    return _read_inline(part, inline) if inline else _read_file(part)


def _read_inline(part: Message, data: Message) -> Part:
    media_type = data.required_text("mimeType").partition(";")[0].strip().lower()
    content = _normalize_base64(data)
    if media_type.startswith("image/"):
        return _image(f"data:{media_type};base64,{content}", part)
    name = data.text("displayName")
    if media_type == PDF:
        return {"type": "input_file", "filename": name or "document.pdf", "file_data": f"data:{PDF};base64,{content}"}
    if media_type.startswith("text/") or media_type in ("application/json", "application/xml"):
        text = base64.b64decode(content).decode("utf-8", "replace")
        return {"type": "input_text", "text": f"{name}:\n{text}" if name else text}
    raise Untranslatable(data.path("mimeType"), f"Inline data of type {media_type!r}")


def _read_file(part: Message) -> Part:
    data = part.message("fileData")
    assert data
    uri, media_type = data.required_text("fileUri"), (data.text("mimeType") or "").lower()
    if not uri.startswith(("https://", "http://", "data:")) or "/v1beta/files/" in uri:
        raise Untranslatable(data.path("fileUri"), "A file that Google stores")
    if media_type.startswith("image/"):
        return _image(uri, part)
    if media_type == PDF:
        return {"type": "input_file", "file_url": uri}
    raise Untranslatable(data.path("mimeType"), f"A file of type {media_type!r}")


def _image(url: str, part: Message) -> Part:
    resolution = part.get("mediaResolution")
    level = resolution.get("level") if isinstance(resolution, dict) else resolution
    return {
        "type": "input_image",
        "image_url": url,
        "detail": DETAILS.get(level, "auto") if isinstance(level, str) else "auto",
    }


def _normalize_base64(data: Message) -> str:
    """Return the data in the standard alphabet with padding. Clients use both base64 alphabets.

    :raises GatewayError: 400, it is not base64.
    """
    text = data.text("data")
    if not text:
        raise invalid(data.path("data"), "data is not specified")
    text = text.translate(_STANDARD).rstrip("=")
    text += "=" * (-len(text) % 4)
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid_type(data.path("data"), "TYPE_BYTES", data.text("data")) from None
    return text
