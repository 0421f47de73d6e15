"""The model lists, so that a gateway that starts again need not wait for the backend."""

import peewee


def up(migrator, db):
    class Upstreams(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "upstreams"

    class Catalogue(db.Model):
        upstream = peewee.ForeignKeyField(Upstreams, column_name="upstream_id", on_delete="CASCADE", primary_key=True)
        client_version = peewee.CharField()
        fetched_at = peewee.BigIntegerField()
        etag = peewee.CharField()
        body = peewee.TextField()

        class Meta:
            table_name = "codex_catalogue"

    db.create_tables([Catalogue], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("codex_catalogue"))
