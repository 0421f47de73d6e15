"""The provider keeps the contract of all providers."""

import itertools
import json

from floway_core.testing import Reply
from floway_core.testing.contract import ProviderContract
from floway_core.testing.events import USAGE

from .server_streams import DONE, calls, chunk, entry
from .upstreams import JSON, model_list

KEY = "sk-the-key-of-the-contract"
TEAM = "the-team-of-the-contract"
CHAT_USAGE = {
    "prompt_tokens": USAGE["input_tokens"],
    "completion_tokens": USAGE["output_tokens"],
    "total_tokens": USAGE["total_tokens"],
    "prompt_tokens_details": USAGE["input_tokens_details"],
    "completion_tokens_details": USAGE["output_tokens_details"],
}


class TestContract(ProviderContract):
    plugin = "chat"
    model = "work/model-1"
    secrets = (KEY, TEAM)
    has_tables = False
    passes_unknown_items = False

    def add_upstream(self, installation, upstream):
        upstream.answer_always("/v1/models", model_list("model-1"))
        options = ("--header", f"x-team: {TEAM}", "--prefix", "work")
        installation.add_upstream("chat", "one", f"{upstream.url}/v1", *options, key=KEY)

    def answer(self, output, stream):
        return self.reply(output, stream, "stop")

    def answer_at_limit(self, output, stream):
        return self.reply(output, stream, "length")

    def answer_with_calls(self, items, stream):
        if not stream:
            return self.reply(items, stream, "tool_calls")
        chunks = [calls(entry(index, item["call_id"], item["name"], "")) for index, item in enumerate(items)]
        halves = [(item["arguments"][:5], item["arguments"][5:]) for item in items]
        for piece, index in itertools.product((0, 1), range(len(items))):
            chunks.append(calls(entry(index, arguments=halves[index][piece])))
        return Reply([*chunks, chunk({}, "tool_calls"), chunk(None, usage=CHAT_USAGE), DONE])

    def unfinished_answer(self):
        return Reply([chunk({"role": "assistant", "content": ""}), chunk("One.")])

    def sent_input(self, request):
        items = []
        for message in json.loads(request.body)["messages"]:
            if message["role"] == "tool":
                items.append({"type": "function_call_output", "call_id": message["tool_call_id"]})
                continue
            items.append({"type": "message", **message, "content": message["content"] or ""})
            items += [{"type": "function_call", "call_id": call["id"]} for call in message.get("tool_calls", ())]
        return items

    @staticmethod
    def reply(output, stream, finish):
        texts = [part["text"] for item in output for part in item.get("content", ()) if "text" in part]
        tool_calls = [
            entry(index, item["call_id"], item["name"], item["arguments"], type="function")
            for index, item in enumerate(item for item in output if item["type"] == "function_call")
        ]
        message = {"role": "assistant", "content": "".join(texts), **({"tool_calls": tool_calls} if tool_calls else {})}
        if stream:
            return Reply([chunk(message), chunk({}, finish), chunk(None, usage=CHAT_USAGE), DONE])
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return Reply([json.dumps({"choices": [choice], "usage": CHAT_USAGE}).encode()], headers=JSON)
