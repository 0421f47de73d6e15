"""Count the input tokens of a request, for upstreams that cannot count.

With the extra ``tokenizer`` texts are counted with OpenAI's tokenizer ``o200k_base``; without it they are estimated
from their characters. README.md states the error of both.
"""

import base64
import binascii
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from floway_anthropic.client.image_size import read_size
from floway_core.protocol import jsontext
from floway_core.protocol.items import as_items

CountText = Callable[[str], int]

ENCODING = "o200k_base"
LONGEST_TEXT = 200_000
"""Characters per call of the tokenizer, which fails with a million."""
TOKENS_PER_REQUEST = 3
TOKENS_PER_ITEM = 4
"""For the special tokens around a message."""
TOKENS_PER_TOOL = 8
"""For the special tokens around the description of a tool."""

PIXELS_PER_TOKEN, MAX_IMAGE_TOKENS = 750, 1600
"""Source: https://docs.anthropic.com/en/docs/build-with-claude/vision. An image of unknown size counts as large."""
TOKENS_PER_PAGE = 2000
"""Source: https://docs.anthropic.com/en/docs/build-with-claude/pdf-support: 1500 to 3000 for the text of a page."""

FIRST_IDEOGRAM = "\u2e80"
"""From this character on, one character is about one token."""

_WORDS = re.compile(r"[^\W\d_]+|\d{1,3}|\s+|[^\w\s]|_")
_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")


def count_tokens(body: Mapping[str, Any]) -> int:
    """Count the tokens of a request of the Responses API."""
    count_text = find_counter()
    total = TOKENS_PER_REQUEST + count_text(str(body.get("instructions") or ""))
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else []:
        total += TOKENS_PER_TOOL + count_text(jsontext.dumps(tool).decode())
    output_format = body.get("text")
    if output_format:
        total += count_text(jsontext.dumps(output_format).decode())
    items = as_items(body.get("input") or [])
    return total + sum(TOKENS_PER_ITEM + _count_item(item, count_text) for item in items)


def _count_item(item: Mapping[str, Any], count_text: CountText) -> int:
    return sum(_count_value(name, value, count_text) for name, value in item.items())


def _count_value(name: str, value: Any, count_text: CountText) -> int:
    """Count a field of an item. Ids and types count nothing; six characters of encrypted reasoning count one token."""
    if name == "encrypted_content" and isinstance(value, str):
        return len(value) // 6
    if isinstance(value, list):
        return sum(_count_part(part, count_text) for part in value if isinstance(part, dict))
    if isinstance(value, str) and name in ("content", "output", "arguments", "input", "name"):
        return count_text(value)
    return count_text(jsontext.dumps(value).decode()) if isinstance(value, dict) else 0


def _count_part(part: Mapping[str, Any], count_text: CountText) -> int:
    if part.get("type") == "input_image":
        return image_tokens(str(part.get("image_url") or ""))
    if part.get("type") == "input_file":
        return document_tokens(str(part.get("file_data") or ""))
    return sum(count_text(text) for text in _texts(part))


def _texts(part: Mapping[str, Any]) -> Iterator[str]:
    yield from (value for name in ("text", "refusal") if isinstance(value := part.get(name), str))


def image_tokens(url: str) -> int:
    """Count an image, by its size if it is in the request."""
    size = read_size(_decode(url, 64_000))
    if size is None:
        return MAX_IMAGE_TOKENS
    return max(1, min(MAX_IMAGE_TOKENS, size[0] * size[1] // PIXELS_PER_TOKEN))


def document_tokens(url: str) -> int:
    """Count a document by its pages, or by its bytes if its pages are in compressed objects."""
    content = _decode(url)
    pages = len(_PAGE.findall(content)) or 1 + len(content) // 50_000
    return pages * TOKENS_PER_PAGE


def _decode(url: str, limit: int | None = None) -> bytes:
    """Return the content of a ``data:`` URL, or its beginning of ``limit`` characters; ``b""`` for another URL."""
    head, _, data = url.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64"):
        return b""
    data = data[: limit // 4 * 4 if limit else None]
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError):
        return b""


# ------------------------------------------------------------------------------------------------------------- texts
@functools.cache
def find_counter() -> CountText:
    """Return the function that counts the tokens of a text: the tokenizer if it is installed, else the estimate."""
    try:
        import bpe_openai
    except ImportError:
        return estimate_text
    encoding = bpe_openai.get_encoding(ENCODING)

    def count_text(text: str) -> int:
        text = text.encode("utf-8", "replace").decode()  # without lone surrogates
        chunks = (text[start : start + LONGEST_TEXT] for start in range(0, len(text), LONGEST_TEXT))
        return sum(len(encoding.encode(chunk, disallowed_special=())) for chunk in chunks)

    return count_text


def estimate_text(text: str) -> int:
    """Estimate the tokens of a text from its words, numbers, punctuation and line breaks."""
    total = sum(map(_estimate_word, _WORDS.findall(text)))
    return max(1, round(total)) if text else 0


def _estimate_word(word: str) -> float:
    """Estimate the tokens of a match of ``_WORDS``. The factors are fitted to ``o200k_base``."""
    first = word[0]
    if first.isalpha():
        if first >= FIRST_IDEOGRAM:
            return len(word) * 0.75
        return max(1.0, len(word) / 6) if word.isascii() else max(1.0, len(word) / 4.5)
    if first.isspace():
        return 0 if word == " " else 0.5
    return 1 if first.isdigit() else 0.65
