"""The dialect keeps the contract of all dialects."""

from types import MappingProxyType

from floway_anthropic.client.events import PING
from floway_anthropic.errors import error_type

from floway_core.testing import events
from floway_core.testing.dialect_contract import DialectContract

from .full_request import FULL


class TestContract(DialectContract):
    plugin = "anthropic"
    key_headers = ("x-api-key",)
    request_id_header = "request-id"
    keepalive = PING
    model_headers = MappingProxyType({"anthropic-version": "2023-06-01"})
    models_path = "/v1/models"
    count_path = "/v1/messages/count_tokens"
    unknown_path = "/v1/messages/nothing"

    def request(self, model, text, stream):
        body = {"max_tokens": 100, "messages": [{"role": "user", "content": text}], "stream": stream}
        return "/v1/messages", {**body, **({"model": model} if model else {})}

    def full_request(self):
        return "/v1/messages", {**FULL, "model": "kit-1"}

    def text(self, answer):
        return "".join(block.get("text", "") for block in answer["content"])

    def streamed_text(self, body):
        deltas = [one["delta"] for one in events.parse(body) if one["type"] == "content_block_delta"]
        return "".join(delta.get("text", "") for delta in deltas)

    def is_complete(self, body):
        return b"event: message_stop\n" in body

    def is_failed(self, body):
        return b"event: error\n" in body

    def check_error(self, status, answer):
        assert answer["type"] == "error" and answer["request_id"]
        assert answer["error"]["type"] == error_type(status)
        return answer["error"]["message"]

    def model_names(self, answer):
        return [model["id"] for model in answer["data"]]

    def token_count(self, answer):
        return answer["input_tokens"]
