"""Adding upstreams that speak Chat Completions to a running gateway."""

import json

from floway_core.testing import Reply

JSON = [("content-type", "application/json")]


def as_json(content, status=200, *headers):
    """A reply with a JSON body."""
    return Reply([json.dumps(content).encode()], status, [*JSON, *headers])


def model_list(*names, owned_by="them"):
    """The reply to a request for the models."""
    return as_json({"object": "list", "data": [{"id": name, "owned_by": owned_by, "created": 7} for name in names]})


def add(gateway, name, url, *options, key="sk-the-operators"):
    """Add an upstream with ``floway upstreams add chat``."""
    gateway.add_upstream("chat", name, f"{url}/v1", *options, key=key)
