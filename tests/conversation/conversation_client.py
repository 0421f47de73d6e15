"""The Conversations API as one client calls it."""

import json

from .direct_store import assistant


class Api:
    """A client of ``/v1/conversations``."""

    def __init__(self, client):
        self.client = client

    def send(self, method, path="", body=None, status=200):
        content = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} if body is not None else {}
        exchange = self.client.caller.send(method, f"/v1/conversations{path}", content, headers)
        assert exchange.status == status, exchange.body
        return exchange.json()

    def create(self, *items, **metadata):
        return self.send("POST", body={"items": list(items), "metadata": metadata})["id"]

    def items(self, conversation, order="asc", **query):
        arguments = "".join(f"&{name}={value}" for name, value in query.items())
        return self.send("GET", f"/{conversation}/items?order={order}{arguments}")

    def texts(self, conversation):
        return texts(self.items(conversation, limit=100)["data"])

    def add(self, conversation, *items):
        return self.send("POST", f"/{conversation}/items", {"items": list(items)})

    def remove(self, conversation, item, status=200):
        return self.send("DELETE", f"/{conversation}/items/{item}", status=status)

    def turn(self, conversation, text, answer, **fields):
        told = self.client.turn(text, conversation=conversation, output=[assistant(answer)], **fields)
        assert told.response["conversation"] == {"id": conversation}
        assert told.response.get("previous_response_id") is None
        return told


def texts(items):
    return [part["text"] for item in items for part in item.get("content", [])]
