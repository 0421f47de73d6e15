"""The tables of the plugin. What is written at different times is in different rows, so no write undoes another.

Models are not bound to a database: every query says where it runs, ``.execute(database)``. Times are Unix seconds. Rows
go with their upstream (foreign keys, see the migration).
"""

import peewee


class Accounts(peewee.Model):
    """Whose account an upstream uses. Written by an import."""

    upstream_id = peewee.CharField(primary_key=True)
    account_id = peewee.CharField(unique=True)
    user_id = peewee.CharField()
    email = peewee.CharField()
    plan = peewee.CharField()
    installation_id = peewee.CharField()
    """A UUIDv4, made once: to the backend this account's requests come from one installation of the CLI. The table
    refuses a row without it."""
    imported_at = peewee.BigIntegerField()

    class Meta:
        table_name = "codex_accounts"


class Credentials(peewee.Model):
    """The refresh token, and who is using it up just now. Written by imports, refreshes and logouts."""

    upstream_id = peewee.CharField(primary_key=True)
    refresh_token = peewee.TextField()
    """Sealed; empty after a logout."""
    id_token = peewee.TextField()
    """Likewise."""
    version = peewee.IntegerField()
    """Goes up with every change of the tokens; a refresh only replaces the version it started from."""
    lease_owner = peewee.CharField(null=True)
    lease_until = peewee.BigIntegerField()

    class Meta:
        table_name = "codex_credentials"


class Tokens(peewee.Model):
    """The access token; no row while there is none."""

    upstream_id = peewee.CharField(primary_key=True)
    access_token = peewee.TextField()
    """Sealed."""
    expires_at = peewee.BigIntegerField()
    """0 when unknown."""

    class Meta:
        table_name = "codex_tokens"


class Health(peewee.Model):
    """Whether the account can be used."""

    upstream_id = peewee.CharField(primary_key=True)
    state = peewee.CharField()
    """One of the states in ``floway_codex.accounts``."""
    message = peewee.TextField()
    since = peewee.BigIntegerField()

    class Meta:
        table_name = "codex_health"


class Quota(peewee.Model):
    """What the backend last said about each of the account's limits."""

    upstream_id = peewee.CharField()
    limit_name = peewee.CharField()
    fetched_at = peewee.BigIntegerField()
    snapshot_json = peewee.TextField()

    class Meta:
        table_name = "codex_quota"
        primary_key = peewee.CompositeKey("upstream_id", "limit_name")


class Catalogue(peewee.Model):
    """The model list that the backend gave last. Written by whoever asked for it."""

    upstream_id = peewee.CharField(primary_key=True)
    client_version = peewee.CharField()
    """The version of the CLI that it was asked for."""
    fetched_at = peewee.BigIntegerField()
    etag = peewee.CharField()
    """Empty when the backend gave none."""
    body = peewee.TextField()
    """As it came."""

    class Meta:
        table_name = "codex_catalogue"
