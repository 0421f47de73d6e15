"""The provider keeps the contract of all providers."""

import json

from floway_core.testing import Reply, items_stream
from floway_core.testing.contract import ProviderContract

from .conftest import auth_json, token

JSON = [("content-type", "application/json")]
SIGN_IN = auth_json()
RENEWED = {"access_token": token("access-second"), "refresh_token": "refresh-second", "expires_in": 3600}


def as_json(content, status=200):
    return Reply([json.dumps(content).encode()], status, JSON)


class TestContract(ProviderContract):
    plugin = "codex"
    model = "gpt-5.5"
    secrets = (*SIGN_IN["tokens"].values(), RENEWED["access_token"], RENEWED["refresh_token"])
    always_streams = True
    mended = (as_json({"detail": "Unauthorized"}, 401),)

    def settings(self, upstream):
        urls = {"codex_base_url": f"{upstream.url}/backend-api", "codex_auth_url": f"{upstream.url}/oauth/token"}
        return {**urls, "codex_transport": "http", "codex_request_encoding": "identity"}

    def add_upstream(self, installation, upstream):
        upstream.answer_always("/backend-api/codex/models", as_json({"models": [{"slug": self.model}]}))
        upstream.answer_always("/oauth/token", as_json(RENEWED))
        done = installation.run("codex", "import", "-", typed=json.dumps(SIGN_IN))
        assert done.returncode == 0, done.stderr

    def answer(self, output, stream):
        return Reply(items_stream(output, empty_output=True))  # the backend streams, whatever the client wants

    def is_dispatch(self, request):
        return request.path.endswith("/codex/responses")
