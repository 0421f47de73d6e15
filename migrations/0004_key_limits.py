"""API keys that expire, that may use only some models and upstreams, and that have limits."""

import peewee

COLUMNS = {
    "expires_at": peewee.BigIntegerField,
    "models": peewee.TextField,
    "upstreams": peewee.TextField,
    "requests_per_minute": peewee.IntegerField,
    "concurrent_requests": peewee.IntegerField,
    "tokens_per_day": peewee.BigIntegerField,
}


def up(migrator, db):
    class ApiKeys(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "api_keys"

    class KeyUses(db.Model):
        api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE", primary_key=True)
        whole_at = peewee.BigIntegerField()
        day = peewee.IntegerField()
        tokens = peewee.BigIntegerField()

        class Meta:
            table_name = "api_key_uses"

    class KeyLeases(db.Model):
        id = peewee.CharField(primary_key=True)
        api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE")
        expires_at = peewee.BigIntegerField()

        class Meta:
            table_name = "api_key_leases"

    migrator.migrate(*(migrator.add_column("api_keys", name, kind(null=True)) for name, kind in COLUMNS.items()))
    db.create_tables([KeyUses, KeyLeases], safe=False)


def down(migrator, db):
    for table in ("api_key_leases", "api_key_uses"):
        migrator.migrate(migrator.drop_table(table))
    migrator.migrate(*(migrator.drop_column("api_keys", name, cascade=False) for name in COLUMNS))
