"""The tables of the plugin. Data with different writers is in different tables, so no write undoes another.

Models are not bound to a database: every query says where it runs, ``.execute(database)``. Times are Unix seconds. Rows
go with their upstream (foreign keys, see the migration).
"""

import peewee


class Accounts(peewee.Model):
    """The account of an upstream. Written by an import or a sign-in."""

    upstream_id = peewee.CharField(primary_key=True)
    account_id = peewee.CharField(unique=True)
    user_id = peewee.CharField()
    email = peewee.CharField()
    plan = peewee.CharField()
    installation_id = peewee.CharField()
    """A UUIDv4, made once, so that all requests of the account come from one installation of the CLI. A constraint
    requires it."""
    imported_at = peewee.BigIntegerField()

    class Meta:
        table_name = "codex_accounts"


class Credentials(peewee.Model):
    """The refresh token, and the lease of the process that renews it. Written by imports, renewals and logouts."""

    upstream_id = peewee.CharField(primary_key=True)
    refresh_token = peewee.TextField()
    """Encrypted; empty after a logout."""
    id_token = peewee.TextField()
    """Encrypted; empty after a logout."""
    version = peewee.IntegerField()
    """Incremented with every change of the tokens. A renewal only replaces the version that it began with."""
    lease_owner = peewee.CharField(null=True)
    lease_until = peewee.BigIntegerField()

    class Meta:
        table_name = "codex_credentials"


class Tokens(peewee.Model):
    """The access token. Without one there is no row."""

    upstream_id = peewee.CharField(primary_key=True)
    access_token = peewee.TextField()
    """Encrypted."""
    expires_at = peewee.BigIntegerField()
    """0 if unknown."""

    class Meta:
        table_name = "codex_tokens"


class Health(peewee.Model):
    """The state of the account."""

    upstream_id = peewee.CharField(primary_key=True)
    state = peewee.CharField()
    """One of the states in ``floway_codex.account.accounts``."""
    message = peewee.TextField()
    since = peewee.BigIntegerField()

    class Meta:
        table_name = "codex_health"


class Quota(peewee.Model):
    """The latest report of the backend about each limit of the account."""

    upstream_id = peewee.CharField()
    limit_name = peewee.CharField()
    fetched_at = peewee.BigIntegerField()
    snapshot_json = peewee.TextField()

    class Meta:
        table_name = "codex_quota"
        primary_key = peewee.CompositeKey("upstream_id", "limit_name")


class Catalogue(peewee.Model):
    """The latest model list of the backend. Written by the process that fetched it."""

    upstream_id = peewee.CharField(primary_key=True)
    client_version = peewee.CharField()
    """The version of the CLI in the request for the list."""
    fetched_at = peewee.BigIntegerField()
    etag = peewee.CharField()
    """Empty if the backend sent none."""
    body = peewee.TextField()
    """The body of the response, unchanged."""

    class Meta:
        table_name = "codex_catalogue"


class Clients(peewee.Model):
    """The versions of the CLI as which turns of the account have been sent. Made with the account, written by turns."""

    upstream_id = peewee.CharField(primary_key=True)
    clients_json = peewee.TextField()
    """A list of objects with the fields of ``floway_codex.account.clients.SeenClient``."""

    class Meta:
        table_name = "codex_clients"
