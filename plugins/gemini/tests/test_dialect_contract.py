"""The dialect keeps the contract of all dialects, in both framings of its streams."""

import json
from types import MappingProxyType

from floway_gemini.client.events import KEEPALIVE
from floway_gemini.errors import status_name

from floway_core.dialect import JSON_ARRAY
from floway_core.testing.dialect_contract import DialectContract

from .full_request import FULL


class GenerateContentContract(DialectContract):
    plugin = "gemini"
    key_headers = ("x-goog-api-key",)
    key_parameters = ("key",)
    model_headers = MappingProxyType({"x-goog-api-client": "google-genai-sdk/3"})
    models_path = "/v1beta/models"
    count_path = "/v1beta/models/kit-1:countTokens"
    unknown_path = "/v1beta/nothing"
    query = "?alt=sse"

    def request(self, model, text, stream):
        verb = f"streamGenerateContent{self.query}" if stream else "generateContent"
        contents = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        return f"/v1beta/models/{model or 'kit-1'}:{verb}", contents if model else {}

    def count_request(self, model, text):
        return f"/v1beta/models/{model}:countTokens", self.request(model, text, False)[1]

    def text(self, answer):
        return "".join(part.get("text", "") for part in answer["candidates"][0]["content"]["parts"])

    def pieces(self, body):
        raise NotImplementedError

    def streamed_text(self, body):
        return "".join(self.text(piece) for piece in self.pieces(body) if "candidates" in piece)

    def is_complete(self, body):
        pieces = self.pieces(body)
        return bool(pieces) and "candidates" in pieces[-1] and pieces[-1]["candidates"][0].get("finishReason") == "STOP"

    def is_failed(self, body):
        return any("error" in piece for piece in self.pieces(body))

    def check_error(self, status, answer):
        assert set(answer) == {"error"} and set(answer["error"]) <= {"code", "message", "status", "details"}
        is_unknown_model = "no-such-model" in answer["error"]["message"]
        assert answer["error"]["code"] == (400 if is_unknown_model else status)
        assert answer["error"]["status"] == status_name(status)
        return answer["error"]["message"]

    def model_names(self, answer):
        return [model["name"].removeprefix("models/") for model in answer["models"]]

    def token_count(self, answer):
        return answer["totalTokens"]


class TestEvents(GenerateContentContract):
    keepalive = KEEPALIVE

    def full_request(self):
        return "/v1beta/models/kit-1:generateContent", FULL

    def pieces(self, body):
        complete, _, _ = body.rpartition(b"\n")
        lines = [line.removeprefix(b"data: ") for line in complete.splitlines()]
        return [json.loads(line) for line in lines if line.strip()]


class TestArray(GenerateContentContract):
    keepalive = JSON_ARRAY.keepalive
    stream_type = "application/json"
    query = ""

    def pieces(self, body):
        pieces, rest = [], body.decode().strip().removeprefix("[").removesuffix("]")
        while rest := rest.strip().removeprefix(",").strip():
            try:
                piece, end = json.JSONDecoder().raw_decode(rest)
            except ValueError:
                break
            pieces.append(piece)
            rest = rest[end:]
        return pieces

    def is_complete(self, body):
        return body.endswith(JSON_ARRAY.closing) and super().is_complete(body)

    def is_failed(self, body):
        return body.endswith(JSON_ARRAY.closing) and super().is_failed(body)
