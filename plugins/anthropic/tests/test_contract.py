"""The provider keeps the contract of all providers."""

import json

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

    def add_upstream(self, installation, upstream):
        upstream.answer_always("/v1/models", wire.model_list("claude-test"))
        where = ["--base-url", upstream.url, "--key-file", "-", "--header", f"x-team: {TEAM}"]
        done = installation.run(
            "upstreams", "add", "anthropic", "one", *where, "--prefix", "work", "--no-test", typed=f"{KEY}\n"
        )
        assert done.returncode == 0, done.stderr

    def answer(self, output, stream):
        parts = [part for item in output for part in item.get("content", [{"text": "A summary."}])]
        return wire.stream(*(wire.say(part["text"]) for part in parts))

    def sent_input(self, request):
        return [
            {
                "type": "message",
                "role": message["role"],
                "content": [
                    {"type": ITEM_OF_ROLE[message["role"]], "text": block["text"]} for block in message["content"]
                ],
            }
            for message in json.loads(request.body)["messages"]
        ]
