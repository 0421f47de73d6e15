"""The tables of core, also those that are only asked in SQL. Models are not bound to a database: every query says where
it runs, ``.execute(database)``."""

import peewee


class ApiKeys(peewee.Model):
    """Keys of clients. Only the SHA-256 of a key is kept, as hex."""

    id = peewee.CharField(primary_key=True)
    name = peewee.CharField(unique=True)
    key_hash = peewee.CharField(unique=True, max_length=64)
    hint = peewee.CharField()
    """The last characters of the key, so that its owner can recognise it."""
    created_at = peewee.BigIntegerField()
    """Unix time, seconds."""
    revoked_at = peewee.BigIntegerField(null=True)
    expires_at = peewee.BigIntegerField(null=True)
    models = peewee.TextField(null=True)
    """The models it may use, as a JSON list; NULL: all."""
    upstreams = peewee.TextField(null=True)
    """Ids of the upstreams it may use, as a JSON list; NULL: all."""
    requests_per_minute = peewee.IntegerField(null=True)
    concurrent_requests = peewee.IntegerField(null=True)
    tokens_per_day = peewee.BigIntegerField(null=True)
    last_used_at = peewee.BigIntegerField(null=True)
    """Unix time in seconds, to the minute; NULL: never, or before this was noted."""
    shows_account = peewee.BooleanField(null=True)
    """Whether its clients see what upstreams tell of the account behind the gateway; NULL: no."""
    max_stored_bytes = peewee.BigIntegerField(null=True)
    """How much its conversations may store; NULL: what the settings say."""
    deleted_at = peewee.BigIntegerField(null=True)
    """Unix time, seconds, from which it is deleted, while its conversations are still being removed."""

    class Meta:
        table_name = "api_keys"


class KeyUses(peewee.Model):
    """What a key with limits has used of them. Whoever lets a request in locks the row."""

    api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE", primary_key=True)
    whole_at = peewee.BigIntegerField()
    """When its requests per minute will all be there again, Unix time in microseconds."""
    day = peewee.IntegerField()
    """The day on which ``tokens`` were used, counted from 1970-01-01 UTC."""
    tokens = peewee.BigIntegerField()

    class Meta:
        table_name = "api_key_uses"


class KeyLeases(peewee.Model):
    """Running requests of keys that may have so many at a time. What is not renewed ran in a worker that is gone."""

    id = peewee.CharField(primary_key=True)
    """The id of the request."""
    api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE")
    expires_at = peewee.BigIntegerField()

    class Meta:
        table_name = "api_key_leases"


class Upstreams(peewee.Model):
    """Configured upstreams. Credentials are kept by the plugin that owns the kind, in its own tables."""

    id = peewee.CharField(primary_key=True)
    kind = peewee.CharField()
    name = peewee.CharField(unique=True)
    enabled = peewee.BooleanField()
    position = peewee.IntegerField()
    created_at = peewee.BigIntegerField()
    prefix = peewee.CharField(default="")
    tried_at = peewee.BigIntegerField(null=True)
    """When it was last asked for something, Unix time in seconds, to the minute; NULL: never."""
    failure = peewee.TextField(null=True)
    """How that failed; empty if it did not."""

    class Meta:
        table_name = "upstreams"


class Aliases(peewee.Model):
    """Names by which clients may ask for other models."""

    name = peewee.CharField(primary_key=True)
    targets_json = peewee.TextField()
    """A JSON array of ``[model, id of the upstream or null]``, the preferred one first."""
    effort = peewee.CharField(null=True)
    verbosity = peewee.CharField(null=True)
    service_tier = peewee.CharField(null=True)

    class Meta:
        table_name = "model_aliases"


class SecretChecks(peewee.Model):
    """A sealed word for every secret key in use, by which a wrong one is noticed at once; the newest has the highest
    id."""

    sealed = peewee.TextField()

    class Meta:
        table_name = "secret_checks"


class Conversations(peewee.Model):
    """A tree of snapshots with one lifetime: it is kept or dropped as a whole."""

    id = peewee.BigAutoField()
    api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE")
    used_at = peewee.BigIntegerField(index=True)
    """When it was last continued or read, Unix seconds; may lag by ``retention.USE_PRECISION_SECONDS``."""
    stored_bytes = peewee.BigIntegerField(default=0)
    """About what its rows take; see ``commit.ROW_BYTES``."""

    class Meta:
        table_name = "responses_conversations"
        indexes = ((("api_key", "stored_bytes"), False),)


class Snapshots(peewee.Model):
    """The state of a conversation after one response: a parent, and (in ``Items``) what this response added."""

    id = peewee.BigAutoField()
    response_id = peewee.CharField(unique=True, max_length=64)
    api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE", index=False)
    conversation = peewee.ForeignKeyField(Conversations, column_name="conversation_id", on_delete="CASCADE")
    parent = peewee.ForeignKeyField("self", column_name="parent_id", null=True)
    mode = peewee.CharField(max_length=8)
    """``append``: the history goes on from the parent. ``replace``: it starts here."""
    depth = peewee.IntegerField()
    """Distance from the root of the conversation."""
    ordinal = peewee.IntegerField()
    """Which child of its parent this is, from 1; 0 for a root. Unique among siblings, not without gaps."""
    ordinals = peewee.IntegerField()
    """The last ordinal handed out to a child."""
    history_bytes = peewee.BigIntegerField(null=True)
    """Bytes of this history as JSON; NULL if an older version stored it."""
    history_hash = peewee.CharField(max_length=64)
    """SHA-256 of the whole history that this snapshot stands for, as ``protocol.items`` computes it."""
    envelope = peewee.BlobField()
    """The response object without its output, encoded by ``conversation.payloads``."""
    metadata_json = peewee.TextField()
    """A JSON object: for each plugin its own metadata."""
    created_at = peewee.BigIntegerField()
    deleted_at = peewee.BigIntegerField(null=True)
    """Deleted by the client, but still part of the history of its children."""

    class Meta:
        table_name = "responses_snapshots"
        indexes = ((("api_key", "history_hash"), False),)


class Items(peewee.Model):
    """The items that one response added, input first, then output."""

    id = peewee.BigAutoField()
    snapshot = peewee.ForeignKeyField(Snapshots, column_name="snapshot_id", on_delete="CASCADE", index=False)
    api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE", index=False)
    position = peewee.IntegerField()
    is_output = peewee.BooleanField()
    item_id = peewee.CharField(null=True)
    """The id the item carries, by which clients may refer to it."""
    upstream_id = peewee.CharField(null=True)
    """Who issued it; NULL for what the client or the gateway made."""
    blob_hash = peewee.CharField(null=True, max_length=64)
    """SHA-256 of its ``encrypted_content``, which only the upstream that issued it can read."""
    payload = peewee.BlobField()
    """The item, encoded by ``conversation.payloads``."""

    class Meta:
        table_name = "responses_items"
        indexes = ((("snapshot", "position"), True), (("api_key", "item_id"), False), (("api_key", "blob_hash"), False))


class Usage(peewee.Model):
    """What requests have used, by day, API key, model and upstream. Names, not ids: what is deleted stays counted."""

    day = peewee.CharField(max_length=10)
    """UTC, as ``2026-01-31``."""
    api_key = peewee.TextField()
    model = peewee.TextField()
    """As clients ask for it."""
    upstream = peewee.TextField()
    requests = peewee.BigIntegerField()
    failed_requests = peewee.BigIntegerField()
    input_tokens = peewee.BigIntegerField()
    cached_tokens = peewee.BigIntegerField()
    """Part of ``input_tokens``."""
    output_tokens = peewee.BigIntegerField()
    reasoning_tokens = peewee.BigIntegerField()
    """Part of ``output_tokens``."""
    cost_usd = peewee.DoubleField()
    unpriced_requests = peewee.BigIntegerField()
    """Requests that used tokens of which nobody knows the price; they are not in ``cost_usd``."""

    class Meta:
        table_name = "usage"
        primary_key = peewee.CompositeKey("day", "api_key", "model", "upstream")
