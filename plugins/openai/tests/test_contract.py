"""The provider keeps the contract of all providers."""

import json

from floway_core.testing import Reply
from floway_core.testing.contract import ProviderContract

KEY = "sk-the-key-of-the-contract"
TEAM = "the-team-of-the-contract"


class TestContract(ProviderContract):
    plugin = "openai"
    model = "work/model-1"
    secrets = (KEY, TEAM)

    def add_upstream(self, installation, upstream):
        models = {"object": "list", "data": [{"id": "model-1", "object": "model"}]}
        upstream.answer_always("/v1/models", Reply([json.dumps(models).encode()], headers=[("content-type", "x/json")]))
        options = ("--header", f"x-team: {TEAM}", "--prefix", "work")
        installation.add_upstream("openai", "one", f"{upstream.url}/v1", *options, key=KEY)
