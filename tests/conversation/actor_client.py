"""A client for the gateway with the provider ``actor``: sends requests, and reads what the upstream received."""

import json
from dataclasses import dataclass
from typing import Any

from floway_core.storage.db import select
from floway_core.testing import events


@dataclass
class Answer:
    """The answer to one request, and what the providers noted while it was made."""

    status: int
    body: Any
    """The parsed JSON, or the list of events."""
    notes: list[dict[str, Any]]

    @property
    def id(self):
        return self.response["id"]

    @property
    def response(self):
        """The response object, if there is one."""
        return self.body[-1]["response"] if isinstance(self.body, list) else self.body

    @property
    def output(self):
        return self.response["output"]

    @property
    def error(self):
        return self.body["error"]

    @property
    def sent(self):
        """The input of every dispatch."""
        return [note["input"] for note in self.notes if note["event"] == "send"]

    @property
    def tried(self):
        """The upstreams, in the order in which they were tried."""
        return [note["upstream"] for note in self.notes if note["event"] == "send"]

    @property
    def commit(self):
        """What ``on_snapshot_commit`` was given."""
        (found,) = [note for note in self.notes if note["event"] == "on_snapshot_commit"]
        return found


class Client:
    """A client with a key of its own."""

    def __init__(self, caller, journal, database):
        self.caller = caller
        self._journal = journal
        self.database = database

    def ask(self, given=None, *, output=None, model="model-1", path="/v1/responses", headers=None, **fields):
        """Send a request and wait for the answer.

        :param output: what the provider is to answer with.
        :param headers: further instructions for the provider, such as ``{"x-test-answer": "cut"}``.
        """
        body = {"model": model, **fields}
        if given is not None:
            body["input"] = given
        asked = {"content-type": "application/json", **(headers or {})}
        if output is not None:
            asked["x-test-output"] = json.dumps(output)
        exchange = self.caller.send("POST", path, json.dumps(body).encode(), asked)
        streamed = exchange.headers.get_content_type() == "text/event-stream"
        content = events.parse(exchange.body) if streamed else exchange.json()
        return Answer(exchange.status, content, self.notes(exchange.headers["x-request-id"]))

    def turn(self, given=None, previous=None, **options):
        """Ask for a response that has to succeed, continuing ``previous``, the id of another."""
        if previous is not None:
            options["previous_response_id"] = previous
        answer = self.ask(given, **options)
        assert answer.status == 200, answer.body
        assert answer.response["status"] == "completed", answer.body
        return answer

    def notes(self, request_id):
        with open(self._journal) as lines:
            return [json.loads(line) for line in lines if request_id in line]

    def rows(self):
        """How many conversations, snapshots and items the key has."""
        mine = "(SELECT id FROM api_keys WHERE key_hash = ?)"
        return [
            select(self.database, f"SELECT count(*) FROM {table} WHERE api_key_id = {mine}", self.key_hash)[0][0]
            for table in ("responses_conversations", "responses_snapshots", "responses_items")
        ]

    @property
    def key_hash(self):
        from floway_core.storage.keys import _hash

        return _hash(self.caller.headers["authorization"].removeprefix("Bearer "))
