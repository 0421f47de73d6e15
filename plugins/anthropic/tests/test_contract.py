"""The provider keeps the contract of all providers."""

import json

from floway_core.testing import Reply
from floway_core.testing.contract import ProviderContract

from . import wire

KEY = "sk-the-key-of-the-contract"
TEAM = "the-team-of-the-contract"
ITEM_OF_ROLE = {"user": "input_text", "assistant": "output_text"}


class TestContract(ProviderContract):
    plugin = "anthropic"
    model = "work/claude-test"
    secrets = (KEY, TEAM)
    has_tables = False
    passes_unknown_items = False
    always_streams = True

    def add_upstream(self, installation, upstream):
        upstream.answer_always("/v1/models", wire.model_list("claude-test"))
        options = ("--header", f"x-team: {TEAM}", "--prefix", "work")
        installation.add_upstream("anthropic", "one", upstream.url, *options, key=KEY)

    def answer(self, output, stream, **fields):
        return wire.stream(*map(block_of, output), usage=USAGE, final_usage={"output_tokens": 5}, **fields)

    def answer_with_calls(self, calls, stream):
        begun, *streams, ended = (
            wire.events(usage=USAGE)[:1],
            *(wire.block_events(index, block_of(call), pieces=3) for index, call in enumerate(calls)),
            wire.events(stop_reason="tool_use")[-2:],
        )
        by_turns = [event for events in zip(*streams, strict=True) for event in events]
        return Reply([*begun, *by_turns, *ended])

    def answer_at_limit(self, output, stream):
        return self.answer(output, stream, stop_reason="max_tokens")

    def sent_input(self, request):
        return [
            item
            for message in json.loads(request.body)["messages"]
            for item in items_of(message["role"], message["content"])
        ]


USAGE = {"input_tokens": 4, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 0}
"""What ``events.USAGE`` is in the Messages API."""


def block_of(item):
    """The block for which clients get an item; a compaction is asked for as a summary."""
    if item["type"] == "function_call":
        return wire.call(item["name"], json.loads(item["arguments"]), id=item["call_id"])
    return wire.say(item["content"][0]["text"] if item["type"] == "message" else "A summary.")


def items_of(role, blocks):
    """The items that a message of a request was made of."""
    for block in blocks:
        if block["type"] == "tool_use":
            yield {"type": "function_call", "call_id": block["id"], "name": block["name"]}
        elif block["type"] == "tool_result":
            yield {"type": "function_call_output", "call_id": block["tool_use_id"]}
        else:
            content = [{"type": ITEM_OF_ROLE[role], "text": block["text"]}]
            yield {"type": "message", "role": role, "content": content}
