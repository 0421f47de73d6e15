"""The store without a server: turns that are begun and committed, and what they leave in the tables."""

import uuid

from floway_core.conversation import load
from floway_core.conversation.cache import HistoryCache
from floway_core.conversation.commit import claim_ordinal, commit
from floway_core.conversation.records import StoreLimits
from floway_core.conversation.turns import resolve_turn
from floway_core.storage import keys
from floway_core.storage.db import select

DAYS = 30
TABLES = ("responses_conversations", "responses_snapshots", "responses_items")


def user(text):
    """A message of the user."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def assistant(text, **fields):
    """A message of the assistant."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "id": f"msg_{text}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    } | fields


def execute(database, sql, *parameters):
    """Run a statement that returns nothing."""
    with database.connection_context():
        database.execute_sql(sql.replace("?", database.param), parameters)


class Store:
    """A database as one API key sees it."""

    def __init__(self, database, key_id=None, memory=0):
        """:param memory: bytes for recent histories; with none every turn shows what the tables hold."""
        self.database = database
        self.recent = HistoryCache(memory)
        self.key_id = key_id or self._new_key()

    def _new_key(self):
        name = uuid.uuid4().hex
        keys.create(self.database, name)
        return select(self.database, "SELECT id FROM api_keys WHERE name = ?", name)[0][0]

    def begin(self, given, previous=None, **fields):
        """The turn of a request."""
        body = {"input": given, "previous_response_id": previous, **fields}
        return resolve_turn(
            self.database, self.recent, self.key_id, body, f"resp_{uuid.uuid4().hex}", DAYS, StoreLimits(2**30)
        )

    def commit(self, turn, *output, upstream="up_1", metadata=None, hook=None):
        """Commit a turn, and return the id of the response."""
        commit(
            self.database,
            self.recent,
            turn,
            upstream_id=upstream,
            response={"id": turn.response_id, "object": "response", "status": "completed", "output": list(output)},
            ordinal=lambda: claim_ordinal(self.database, turn.previous),
            hook=hook or (lambda: metadata or {}),
        )
        return turn.response_id

    def turn(self, given, *output, previous=None, **options):
        """Begin and commit."""
        return self.commit(self.begin(given, previous), *output, **options)

    def snapshot(self, response_id):
        """The snapshot, or None."""
        return load.find_snapshot(self.database, self.key_id, response_id, load.expiry_cutoff(DAYS))

    def history(self, response_id):
        """The items that the next turn would see."""
        return load.load_history(self.database, self.recent, self.snapshot(response_id)).items

    def rows(self):
        """How many rows the key has, by table."""
        return [
            select(self.database, f"SELECT count(*) FROM {table} WHERE api_key_id = ?", self.key_id)[0][0]
            for table in TABLES
        ]

    def execute(self, sql, *parameters):
        """Run a statement, as somebody with access to the database might."""
        execute(self.database, sql, *parameters)

    def size(self):
        """Bytes in the rows of the key."""
        sums = (
            "SELECT coalesce(sum(length(envelope) + length(metadata_json)), 0) FROM responses_snapshots",
            "SELECT coalesce(sum(length(payload)), 0) FROM responses_items",
        )
        return sum(select(self.database, f"{text} WHERE api_key_id = ?", self.key_id)[0][0] for text in sums)
