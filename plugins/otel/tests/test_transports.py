"""Spans of responses that no HTTP client waits for: those on a WebSocket, and those in the background."""

import json
import uuid
from types import SimpleNamespace
from urllib.parse import urlsplit

from websockets.sync.client import connect

from floway_core.testing import Reply, message_stream

PATIENCE = 60


def check(collector, response_id, *events):
    """Check the spans of a response, whose id holds that of its request."""
    request_id = str(uuid.UUID(response_id.removeprefix("resp_")))
    attempt, request = collector.spans_of(SimpleNamespace(headers={"x-request-id": request_id}))
    assert attempt["attributes"]["gen_ai.response.id"] == response_id
    assert attempt["attributes"]["gen_ai.usage.input_tokens"] == 7 and not attempt["failed"] and not request["failed"]
    assert [name for name, _ in attempt["events"]] == [f"floway.{name}" for name in events]


def test_a_websocket(gateway, upstream, collector):
    upstream.script(Reply(message_stream("one")), Reply(message_stream("two")))
    url = f"ws://{urlsplit(gateway.url).netloc}/v1/responses"
    with connect(url, additional_headers={"authorization": f"Bearer {gateway.key}"}, proxy=None) as connection:
        for text in ("1", "2"):
            connection.send(json.dumps({"type": "response.create", "model": "model-1", "input": text}))
            event = {"type": ""}
            while event["type"] != "response.completed":
                event = json.loads(connection.recv(PATIENCE))
            check(collector, event["response"]["id"], "dispatch", "first_byte", "commit")


def test_a_background_response(client, upstream, collector):
    upstream.script(Reply(message_stream("one")))
    created = client.create("1", model="model-1", background=True).json()
    assert created["status"] in ("queued", "in_progress")
    check(collector, created["id"], "dispatch", "commit")  # nobody waits for its first byte
