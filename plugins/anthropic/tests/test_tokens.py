"""Counting tokens: with the tokenizer, and by the estimate without it."""

import base64
import json
from pathlib import Path

import bpe_openai
import pytest
from floway_anthropic.client import tokens
from floway_anthropic.client.image_size import read_size
from floway_anthropic.client.requests import read_request

from .test_requests import request, user

ROOT = Path(__file__).parents[3]


def count(*messages, **fields):
    body = {"model": "m", "max_tokens": 10, "messages": list(messages), **fields}
    return tokens.count_tokens(read_request(request(body)).body)


def test_texts_are_counted_with_the_tokenizer():
    text = "Grüße an alle, and good day. " * 20
    expected = len(bpe_openai.get_encoding("o200k_base").encode(text))
    assert expected < count(user(text)) < expected + 15


def test_special_tokens_and_very_long_texts_are_texts():
    assert count(user("<|endoftext|>")) > 3
    assert 200_000 < count(user("word " * 300_000)) < 400_000


def test_everything_counts():
    plain = count(user("Hi"))
    tool = {"name": "f", "description": "Does this and that.", "input_schema": {"type": "object", "properties": {}}}
    assert count(user("Hi"), tools=[tool]) > plain + 15
    assert count(user("Hi"), system="Be brief, please.") > plain + 3
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": "b " * 50}}]}
    result = user({"type": "tool_result", "tool_use_id": "t", "content": "word " * 100})
    assert count(user("Hi"), call, result) > plain + 150


@pytest.mark.parametrize(("size", "expected"), [(8, 1), (600, 480), (4000, 1600)])
def test_images_count_by_their_size(size, expected, draw_png):
    url = f"data:image/png;base64,{base64.b64encode(draw_png(size)).decode()}"
    assert tokens.image_tokens(url) == expected


def test_an_image_elsewhere_counts_as_a_large_one():
    assert tokens.image_tokens("https://a.example/x.png") == tokens.MAX_IMAGE_TOKENS


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"GIF89a" + (3).to_bytes(2, "little") + (5).to_bytes(2, "little"), (3, 5)),
        (b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (2).to_bytes(3, "little") + (4).to_bytes(3, "little"), (3, 5)),
        (b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x11\x08\0\x05\0\x03", (3, 5)),
        (b"\xff\xd8\xff", None),
        (b"", None),
        (b"text", None),
    ],
)
def test_the_size_of_an_image(content, expected):
    assert read_size(content) == expected


def test_documents_count_by_their_pages():
    pages = b"%PDF-1.4 /Type /Pages /Type /Page /Type/Page"
    url = f"data:application/pdf;base64,{base64.b64encode(pages).decode()}"
    assert tokens.document_tokens(url) == 2 * tokens.TOKENS_PER_PAGE


SAMPLES = {
    "English": (ROOT / "docs/architecture.md").read_text(),
    "Python": (ROOT / "floway_core/engine/serve.py").read_text(),
    "JSON": json.dumps(json.loads((ROOT / "floway_core/web/openapi.json").read_text()))[:20_000],
    "German": "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung aller Gewalt. ",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом. ",
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_the_estimate_is_as_far_off_as_the_readme_says(sample):
    exact = tokens.find_counter()(sample)
    assert tokens.find_counter() is not tokens.estimate_text
    assert abs(tokens.estimate_text(sample) / exact - 1) < 0.2
