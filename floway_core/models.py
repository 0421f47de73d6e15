"""The tables of core. Models are not bound to a database: every query says where it runs, ``.execute(database)``."""

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

    class Meta:
        table_name = "api_keys"


class Upstreams(peewee.Model):
    """Configured upstreams. Credentials are kept by the plugin that owns the kind, in its own tables."""

    id = peewee.CharField(primary_key=True)
    kind = peewee.CharField()
    name = peewee.CharField(unique=True)
    enabled = peewee.BooleanField()
    position = peewee.IntegerField()
    created_at = peewee.BigIntegerField()

    class Meta:
        table_name = "upstreams"
