"""A provider for the contract of dialects: it passes requests on to a scripted upstream, and counts when asked to."""

KIT_PROVIDER = '''"""A provider that sends requests to the scripted upstream of a test."""

import json

from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext
from floway_core.provider import Model, Provider
from floway_core.settings import Setting, origin_url
from floway_core.upstream import HttpClient

CLIENT_HEADERS = "x-kit-client-headers"


class KitProvider(Provider):
    kind = "kit"

    def __init__(self, services):
        self._client = HttpClient(services.settings)
        self._url = services.settings.plugin["kit_url"]

    def list_models(self, upstream):
        return [Model("kit-1", "kit", 1700000000), Model("org/kit-2", "kit")]

    def send(self, ctx):
        request = ctx.attempt.request
        seen = json.dumps([dict(request.headers), dict(request.original.query) if request.original else {}])
        headers = {"content-type": "application/json", CLIENT_HEADERS: seen}
        return self._client.stream(ctx, "POST", f"{self._url}/answers", headers, jsontext.dumps(ctx.body))

    def count_tokens(self, ctx):
        return 42 if "COUNT" in json.dumps(ctx.body["input"]) else None


@hookimpl
def register_settings():
    return [Setting("kit_url", origin_url, "http://127.0.0.1:9", "Where to send requests.")]


@hookimpl
def register_providers(services):
    return [KitProvider(services)]
'''
"""The source of the plugin ``kit``."""

MODELS = ("kit-1", "org/kit-2")
"""The models that it serves."""
