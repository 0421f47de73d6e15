"""The clients as which an account's turns have been sent."""

import peewee


def up(migrator, db):
    class Upstreams(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "upstreams"

    class Clients(db.Model):
        upstream = peewee.ForeignKeyField(Upstreams, column_name="upstream_id", on_delete="CASCADE")
        version = peewee.CharField(max_length=64)
        is_cli = peewee.BooleanField()
        originator = peewee.CharField()
        user_agent = peewee.CharField()
        seen_at = peewee.BigIntegerField()

        class Meta:
            table_name = "codex_clients"
            primary_key = peewee.CompositeKey("upstream", "version", "is_cli")

    db.create_tables([Clients], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("codex_clients"))
