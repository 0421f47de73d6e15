"""API keys and upstreams."""

import peewee


def up(migrator, db):
    class ApiKeys(db.Model):
        id = peewee.CharField(primary_key=True)
        name = peewee.CharField(unique=True)
        key_hash = peewee.CharField(unique=True, max_length=64)
        hint = peewee.CharField()
        created_at = peewee.BigIntegerField()
        revoked_at = peewee.BigIntegerField(null=True)

        class Meta:
            table_name = "api_keys"

    class Upstreams(db.Model):
        id = peewee.CharField(primary_key=True)
        kind = peewee.CharField()
        name = peewee.CharField(unique=True)
        enabled = peewee.BooleanField()
        position = peewee.IntegerField()
        created_at = peewee.BigIntegerField()

        class Meta:
            table_name = "upstreams"

    db.create_tables([ApiKeys, Upstreams], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("upstreams"), migrator.drop_table("api_keys"))
