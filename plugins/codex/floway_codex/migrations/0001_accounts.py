"""Accounts, their credentials, access tokens, health and quota."""

import peewee


def up(migrator, db):
    class Upstreams(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "upstreams"

    def of_upstream(**options):
        return peewee.ForeignKeyField(Upstreams, column_name="upstream_id", on_delete="CASCADE", **options)

    class Accounts(db.Model):
        upstream = of_upstream(primary_key=True)
        account_id = peewee.CharField(unique=True)
        user_id = peewee.CharField()
        email = peewee.CharField()
        plan = peewee.CharField()
        installation_id = peewee.CharField()
        imported_at = peewee.BigIntegerField()

        class Meta:
            table_name = "codex_accounts"

    class Credentials(db.Model):
        upstream = of_upstream(primary_key=True)
        refresh_token = peewee.TextField()
        id_token = peewee.TextField()
        version = peewee.IntegerField()
        lease_owner = peewee.CharField(null=True)
        lease_until = peewee.BigIntegerField()

        class Meta:
            table_name = "codex_credentials"

    class Tokens(db.Model):
        upstream = of_upstream(primary_key=True)
        access_token = peewee.TextField()
        expires_at = peewee.BigIntegerField()

        class Meta:
            table_name = "codex_tokens"

    class Health(db.Model):
        upstream = of_upstream(primary_key=True)
        state = peewee.CharField()
        message = peewee.TextField()
        since = peewee.BigIntegerField()

        class Meta:
            table_name = "codex_health"

    class Quota(db.Model):
        upstream = of_upstream(index=False)
        limit_name = peewee.CharField()
        fetched_at = peewee.BigIntegerField()
        snapshot_json = peewee.TextField()

        class Meta:
            table_name = "codex_quota"
            primary_key = peewee.CompositeKey("upstream", "limit_name")

    db.create_tables([Accounts, Credentials, Tokens, Health, Quota], safe=False)


def down(migrator, db):
    for table in ("codex_quota", "codex_health", "codex_tokens", "codex_credentials", "codex_accounts"):
        migrator.migrate(migrator.drop_table(table))
