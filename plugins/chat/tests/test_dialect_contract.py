"""The chat door keeps the contract of all dialects."""

from floway_core.testing.dialect_contract import DialectContract
from floway_core.testing.events import parse

from .full_request import FULL


class TestDialect(DialectContract):
    plugin = "chat"
    keepalive = b": keepalive\n\n"
    unknown_path = "/v1/chat/nothing"

    def request(self, model, text, stream):
        body = {"messages": [{"role": "user", "content": text}], "stream": stream}
        return "/v1/chat/completions", body if model is None else {"model": model, **body}

    def full_request(self):
        return "/v1/chat/completions", {"model": "kit-1", **FULL}

    def text(self, answer):
        return answer["choices"][0]["message"]["content"]

    def streamed_text(self, body):
        chunks = parse(body.rpartition(b"\n\n")[0] + b"\n\n")
        deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", ())]
        return "".join(delta.get("content") or "" for delta in deltas)

    def is_complete(self, body):
        return b'"finish_reason":"' in body and body.endswith(b"data: [DONE]\n\n")

    def is_failed(self, body):
        return b'data: {"error":{' in body

    def check_error(self, status, answer):
        assert set(answer["error"]) >= {"message", "type", "param", "code"} and "type" not in answer
        return answer["error"]["message"]
