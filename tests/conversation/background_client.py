"""Requests for background responses: create, read, wait and follow."""

import json
import time


def create(client, upstream=None, **fields):
    """Create a background response; return the exchange."""
    headers = {"content-type": "application/json"} | ({"x-test-upstream": upstream.url} if upstream else {})
    headers |= fields.pop("headers", {})
    body = {"model": "model-1", "input": "one", "background": True, **fields}
    return client.caller.send("POST", "/v1/responses", json.dumps(body).encode(), headers)


def read(client, response_id, status=200, query=""):
    exchange = client.caller.send("GET", f"/v1/responses/{response_id}{query}")
    assert exchange.status == status, exchange.body
    return exchange.json()


def wait_for(client, response_id, *statuses):
    """Poll until the response has one of some statuses; return it."""
    deadline = time.monotonic() + 60
    while (told := read(client, response_id))["status"] not in statuses:
        assert time.monotonic() < deadline, told
        time.sleep(0.02)
    return told


def follow(client, response_id, after=None):
    query = "" if after is None else f"&starting_after={after}"
    return client.caller.send("GET", f"/v1/responses/{response_id}?stream=true{query}")


def numbers(told):
    return [event["sequence_number"] for event in told]
