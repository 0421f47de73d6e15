"""The contract of dialects holds for the Responses API and for a made-up dialect."""

import json
import types
from pathlib import Path

import pytest

from floway_core.dialect import JSON_ARRAY
from floway_core.testing.dialect_contract import DialectContract
from floway_core.testing.events import parse

LETTERS = (Path(__file__).parent / "letters.py").read_text(encoding="utf-8")


class TestResponses(DialectContract):
    plugin = None
    key_headers = ("x-api-key",)
    keepalive = b": keepalive\n\n"
    models_path = "/v1/models"
    count_path = "/v1/responses/input_tokens"
    unknown_path = "/v1/responses/resp_1/nothing"

    def request(self, model, text, stream):
        return "/v1/responses", {"model": model, "input": text, "stream": stream}

    def text(self, answer):
        return "".join(part["text"] for item in answer["output"] for part in item.get("content") or [])

    def streamed_text(self, body):
        events = parse(body.rpartition(b"\n\n")[0] + b"\n\n")
        deltas = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        return deltas or self.text({"output": done})  # an upstream may leave the deltas out

    def is_complete(self, body):
        return b"event: response.completed\n" in body and body.endswith(b"data: [DONE]\n\n")

    def is_failed(self, body):
        return b"event: response.failed\n" in body

    def check_error(self, status, answer):
        assert set(answer["error"]) >= {"message", "type", "param", "code"} and "type" not in answer
        return answer["error"]["message"]

    def model_names(self, answer):
        return [model["id"] for model in answer["data"]]

    def token_count(self, answer):
        return answer["input_tokens"]


class TestLetters(DialectContract):
    plugin = "letters"
    plugin_source = LETTERS
    key_headers = ("x-stamp",)
    key_parameters = ("stamp",)
    request_id_header = "letter-id"
    keepalive = b": the pen rests\n\n"
    model_headers = types.MappingProxyType({"letters-version": "1"})
    models_path = "/v1/models"
    count_path = "/v1/letters/weigh"
    unknown_path = "/v1/letters/post/office"

    def request(self, model, text, stream):
        return "/v1/letters", {"to": model, "lines": [text], "aloud": stream}

    def text(self, answer):
        return "".join(answer["lines"])

    def streamed_text(self, body):
        return "".join(line.get("say", "") for line in lines(body))

    def is_complete(self, body):
        return body.endswith(b'data: {"bye": true}\n\n')

    def is_failed(self, body):
        return any("trouble" in line for line in lines(body))

    def check_error(self, status, answer):
        assert set(answer) == {"trouble"} and set(answer["trouble"]) == {"kind", "words", "where"}
        return answer["trouble"]["words"]

    def status(self, status):
        return 530 if status == 503 else status

    def model_names(self, answer):
        return answer["writers"]

    def token_count(self, answer):
        return answer["weight"]


@pytest.mark.soak  # the dialects of plugins run the contract for their framings, too
class TestBoundLetters(TestLetters):
    """The letters whose lines come as one JSON array."""

    keepalive = JSON_ARRAY.keepalive
    stream_type = "application/json"

    def request(self, model, text, stream):
        return "/v1/letters", {"to": model, "lines": [text], "aloud": "bound" if stream else False}

    def streamed_text(self, body):
        return "".join(line.get("say", "") for line in elements(body))

    def is_complete(self, body):
        return self._is_whole(body) and json.loads(body)[-1] == {"bye": True}

    def is_failed(self, body):
        return self._is_whole(body) and any("trouble" in line for line in json.loads(body))

    def _is_whole(self, body):
        try:
            return isinstance(json.loads(body), list)
        except ValueError:
            return False


def elements(body):
    """The elements of an array that may not be complete."""
    found, rest = [], body.decode().strip().removeprefix("[").removesuffix("]")
    while rest := rest.strip().removeprefix(",").strip():
        try:
            element, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            break
        found.append(element)
        rest = rest[end:]
    return found


def lines(body):
    data = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: {")]
    return [json.loads(line) for line in data if line.endswith(b"}")]
