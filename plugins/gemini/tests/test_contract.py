"""The provider keeps the contract of all providers."""

import json

from floway_core.testing.contract import ProviderContract

from . import wire

KEY = "the-key-of-the-contract"
TEAM = "the-team-of-the-contract"
ITEM_OF_ROLE = {"user": "input_text", "model": "output_text"}
USAGE = {"promptTokenCount": 7, "cachedContentTokenCount": 3, "candidatesTokenCount": 5, "totalTokenCount": 12}
"""What ``events.USAGE`` is in this API."""


class TestContract(ProviderContract):
    plugin = "gemini"
    model = "work/gemini-test"
    secrets = (KEY, TEAM)
    has_tables = False
    passes_unknown_items = False
    always_streams = True

    def add_upstream(self, installation, upstream):
        upstream.answer_always("/v1beta/models", wire.model_list("gemini-test"))
        options = ("--header", f"x-team: {TEAM}", "--prefix", "work")
        installation.add_upstream("gemini", "one", upstream.url, *options, key=KEY)

    def answer(self, output, stream, **fields):
        return wire.stream(*map(part_of, output), usage=USAGE, **fields)

    def answer_with_calls(self, calls, stream):
        return self.answer(calls, stream)

    def answer_at_limit(self, output, stream):
        return self.answer(output, stream, finish_reason="MAX_TOKENS")

    def sent_input(self, request):
        contents = json.loads(request.body)["contents"]
        return [item for content in contents for part in content["parts"] for item in items_of(content["role"], part)]


def part_of(item):
    """The part for which clients get an item; a compaction is asked for as a summary."""
    if item["type"] == "function_call":
        return wire.call(item["name"], json.loads(item["arguments"]), id=item["call_id"])
    return wire.say(item["content"][0]["text"] if item["type"] == "message" else "A summary.")


def items_of(role, part):
    """The item that a part of a request was made of."""
    if "functionCall" in part:
        yield {"type": "function_call", "call_id": part["functionCall"]["id"], "name": part["functionCall"]["name"]}
    elif "functionResponse" in part:
        yield {"type": "function_call_output", "call_id": part["functionResponse"]["id"]}
    else:
        content = [{"type": ITEM_OF_ROLE[role], "text": part["text"]}]
        yield {"type": "message", "role": role, "content": content}
