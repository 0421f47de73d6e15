"""The tables of core, including those that only SQL statements use.

The models are not bound to a database: each query names it, ``.execute(database)``.
"""

import peewee


class KeyGroups(peewee.Model):
    """Groups of API keys, which share a budget. Amounts are in billionths of a USD."""

    id = peewee.CharField(primary_key=True)
    name = peewee.CharField(unique=True)
    created_at = peewee.BigIntegerField()
    day_budget = peewee.BigIntegerField(null=True)
    """What its keys may spend in a UTC day; NULL: no limit."""
    month_budget = peewee.BigIntegerField(null=True)
    allows_unpriced = peewee.BooleanField(null=True)
    """Whether its keys may use models without a known price, which then count as nothing; NULL: no."""

    class Meta:
        table_name = "key_groups"


class ApiKeys(peewee.Model):
    """Keys of clients. Only the SHA-256 of a key is stored, as hex."""

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
    """Unix time in seconds, to the minute; NULL: never used, or only before last uses were recorded."""
    shows_account = peewee.BooleanField(null=True)
    """Whether its clients see account details in the answers of upstreams; NULL: no."""
    max_stored_bytes = peewee.BigIntegerField(null=True)
    """Size of its conversations, in bytes; NULL: the limit in the settings."""
    deleted_at = peewee.BigIntegerField(null=True)
    """Unix time in seconds at which it was deleted, while its conversations are still being removed."""
    day_budget = peewee.BigIntegerField(null=True)
    """As those of ``KeyGroups``, as the next two."""
    month_budget = peewee.BigIntegerField(null=True)
    allows_unpriced = peewee.BooleanField(null=True)
    group = peewee.ForeignKeyField(KeyGroups, column_name="group_id", null=True)

    class Meta:
        table_name = "api_keys"


class Spending(peewee.Model):
    """What keys with a budget, and groups, have spent by day."""

    holder_id = peewee.CharField()
    """The id of the key or of the group. No foreign key: what the last request of a deleted key costs counts for its
    group, in the same statement."""
    day = peewee.IntegerField()
    """In days since 1970-01-01 UTC."""
    spent = peewee.BigIntegerField()
    """In billionths of a USD."""
    unpriced_requests = peewee.BigIntegerField()
    """Requests whose cost is unknown, so that ``spent`` does not include it."""

    class Meta:
        table_name = "budget_spending"
        primary_key = peewee.CompositeKey("holder_id", "day")


class KeyUses(peewee.Model):
    """The used part of the limits of a key. Admitting a request locks the row."""

    api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE", primary_key=True)
    whole_at = peewee.BigIntegerField()
    """Unix time in microseconds at which its requests per minute are fully available again."""
    day = peewee.IntegerField()
    """The day on which ``tokens`` were used, in days since 1970-01-01 UTC."""
    tokens = peewee.BigIntegerField()

    class Meta:
        table_name = "api_key_uses"


class KeyLeases(peewee.Model):
    """Running requests of keys with a limit of concurrent ones. A lease expires if its worker has died."""

    id = peewee.CharField(primary_key=True)
    """The id of the request."""
    api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE")
    expires_at = peewee.BigIntegerField()

    class Meta:
        table_name = "api_key_leases"


class Upstreams(peewee.Model):
    """Configured upstreams. The plugin that owns the kind stores the credentials in its own tables."""

    id = peewee.CharField(primary_key=True)
    kind = peewee.CharField()
    name = peewee.CharField(unique=True)
    enabled = peewee.BooleanField()
    position = peewee.IntegerField()
    created_at = peewee.BigIntegerField()
    prefix = peewee.CharField(default="")
    tried_at = peewee.BigIntegerField(null=True)
    """Unix time of the latest request to it in seconds, to the minute; NULL: never."""
    failure = peewee.TextField(null=True)
    """The reason why that request failed; empty if it succeeded."""

    class Meta:
        table_name = "upstreams"


class UpstreamConnections(peewee.Model):
    """The connections of upstreams with an API key; see ``storage.connections``. Deleted with their upstream."""

    upstream = peewee.ForeignKeyField(Upstreams, column_name="upstream_id", on_delete="CASCADE", primary_key=True)
    base_url = peewee.TextField()
    api_key = peewee.TextField(null=True)
    """Encrypted; NULL for an upstream that needs none."""
    headers = peewee.TextField()
    """A JSON object, encrypted because headers may contain secrets."""
    models_json = peewee.TextField()
    """A JSON array of names; empty if the upstream lists its models."""
    options_json = peewee.TextField()
    """A JSON object: the options that the provider declares."""

    class Meta:
        table_name = "upstream_connections"


class Aliases(peewee.Model):
    """Names that clients can request in place of other models."""

    name = peewee.CharField(primary_key=True)
    targets_json = peewee.TextField()
    """A JSON array of ``[model, id of the upstream or null]``, the preferred one first."""
    effort = peewee.CharField(null=True)
    verbosity = peewee.CharField(null=True)
    service_tier = peewee.CharField(null=True)

    class Meta:
        table_name = "model_aliases"


class ConfigurationVersion(peewee.Model):
    """One row: a number that triggers let grow with every change of the tables above; see ``storage.configuration``."""

    version = peewee.BigIntegerField()

    class Meta:
        table_name = "configuration_version"


class SecretChecks(peewee.Model):
    """An encrypted text for each secret key in use, which detects a wrong key. The newest has the highest id."""

    sealed = peewee.TextField()

    class Meta:
        table_name = "secret_checks"


class Conversations(peewee.Model):
    """A tree of snapshots, which expire together."""

    id = peewee.BigAutoField()
    api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE", index=False)
    used_at = peewee.BigIntegerField(index=True)
    """Unix time in seconds at which it was last continued or read, up to ``retention.USE_PRECISION_SECONDS`` late."""
    stored_bytes = peewee.BigIntegerField(default=0)
    """Approximate size of its rows in bytes; see ``snapshots.ROW_BYTES``."""
    public_id = peewee.CharField(null=True, unique=True, max_length=64)
    """The id for clients, if they have created it at ``/v1/conversations``; NULL for others."""
    created_at = peewee.BigIntegerField(null=True)
    """Unix time in seconds; NULL if it has no ``public_id``."""
    metadata_json = peewee.TextField(null=True)
    """The client's metadata, a JSON object; NULL if it has no ``public_id``."""
    head_id = peewee.BigIntegerField(null=True)
    """The snapshot that the next turn of ``public_id`` continues; NULL if there is none. Not a foreign key, because the
    snapshots refer to this table; ``retention`` keeps the snapshot."""
    locked_by = peewee.CharField(null=True, max_length=64)
    """The id of the response that is being created in it. The lock ends when it has no lease in ``TurnLeases``."""

    class Meta:
        table_name = "responses_conversations"
        indexes = ((("api_key", "stored_bytes"), False),)


class TurnLeases(peewee.Model):
    """Leases of running turns that other requests must respect. A lease expires if its worker has died."""

    id = peewee.CharField(primary_key=True, max_length=64)
    """The id of the response that is being created in a conversation; with a prefix, of one in the background."""
    api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE")
    expires_at = peewee.BigIntegerField()
    """Unix time in seconds."""

    class Meta:
        table_name = "turn_leases"


class Snapshots(peewee.Model):
    """The state of a conversation after one response: its parent, and (in ``Items``) its new items."""

    id = peewee.BigAutoField()
    response_id = peewee.CharField(unique=True, max_length=64)
    api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE", index=False)
    conversation = peewee.ForeignKeyField(Conversations, column_name="conversation_id", on_delete="CASCADE")
    parent = peewee.ForeignKeyField("self", column_name="parent_id", null=True)
    mode = peewee.CharField(max_length=8)
    """``append``: it extends the history of its parent. ``replace``: it starts a new history."""
    depth = peewee.IntegerField()
    """Distance from the root of the conversation."""
    ordinal = peewee.IntegerField()
    """Its number among the children of its parent, from 1; 0 for a root. Unique among siblings; there may be gaps."""
    ordinals = peewee.IntegerField()
    """The highest ordinal that a child has received."""
    history_bytes = peewee.BigIntegerField(null=True)
    """Bytes of this history as JSON; NULL if an older version of Floway stored it."""
    history_hash = peewee.CharField(max_length=64)
    """SHA-256 of the whole history up to this snapshot, as ``protocol.items`` computes it."""
    envelope = peewee.BlobField()
    """The response object without its output, encoded by ``conversation.payloads``."""
    metadata_json = peewee.TextField()
    """A JSON object: for each plugin its own metadata."""
    created_at = peewee.BigIntegerField()
    deleted_at = peewee.BigIntegerField(null=True)
    """When the client deleted it. It remains part of the history of its children. It is set from the start for
    snapshots of a conversation with an id that are not readable responses: with ``store: false``, and for edited
    items."""

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
    """The item's own ``id``, by which clients can refer to it."""
    upstream_id = peewee.CharField(null=True)
    """The upstream that issued it; NULL if it comes from the client or the gateway."""
    blob_hash = peewee.CharField(null=True, max_length=64)
    """SHA-256 of its ``encrypted_content``, which only the issuing upstream can read."""
    payload = peewee.BlobField()
    """The item, encoded by ``conversation.payloads``."""

    class Meta:
        table_name = "responses_items"
        indexes = ((("snapshot", "position"), True), (("api_key", "item_id"), False), (("api_key", "blob_hash"), False))


class BackgroundResponses(peewee.Model):
    """Responses that are created in the background. After completion, the snapshot is authoritative."""

    id = peewee.BigAutoField()
    response_id = peewee.CharField(unique=True, max_length=64)
    api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE")
    status = peewee.CharField(max_length=16)
    """That of the response object: ``queued``, ``in_progress``, ``completed``, ``incomplete``, ``failed`` or
    ``cancelled``."""
    response = peewee.BlobField()
    """The response object while it is not complete, encoded by ``conversation.payloads``."""
    has_events = peewee.BooleanField()
    """Whether the client has asked for a stream, so that the events are stored."""
    created_at = peewee.BigIntegerField(index=True)
    """Unix time, seconds."""
    ended_at = peewee.BigIntegerField(null=True)
    """Unix time in seconds after which no more events are stored."""

    class Meta:
        table_name = "background_responses"


class BackgroundEvents(peewee.Model):
    """Batches of events of a background response, in order."""

    id = peewee.BigAutoField()
    response = peewee.ForeignKeyField(
        BackgroundResponses, column_name="background_id", on_delete="CASCADE", index=False
    )
    last_number = peewee.BigIntegerField()
    """The sequence number of the last event."""
    payload = peewee.BlobField()
    """The events as the client gets them, encoded by ``conversation.payloads``."""

    class Meta:
        table_name = "background_events"
        indexes = ((("response", "last_number"), True),)


class VisibleHashes(peewee.Model):
    """Hashes of the history that ends with a response, in the form of clients that drop the reasoning."""

    id = peewee.BigAutoField()
    api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE", index=False)
    hash = peewee.CharField(max_length=64)
    """SHA-256 of the whole history, or of its last turn, as ``protocol.visible_history`` computes them."""
    snapshot = peewee.ForeignKeyField(Snapshots, column_name="snapshot_id", on_delete="CASCADE")

    class Meta:
        table_name = "responses_visible_hashes"
        indexes = ((("api_key", "hash"), False),)


class Usage(peewee.Model):
    """Tokens and costs by day, API key, model and upstream. Names instead of ids, so rows outlive deletions."""

    day = peewee.CharField(max_length=10)
    """UTC, as ``2026-01-31``."""
    api_key = peewee.TextField()
    model = peewee.TextField()
    """The name that clients requested."""
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
    """Requests whose tokens have no known price; ``cost_usd`` does not include them."""

    class Meta:
        table_name = "usage"
        primary_key = peewee.CompositeKey("day", "api_key", "model", "upstream")
