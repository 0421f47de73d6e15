"""How to reach the upstreams that need a URL and an API key."""

import peewee


def up(migrator, db):
    class Upstreams(peewee.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            database = db
            table_name = "upstreams"

    class UpstreamConnections(peewee.Model):
        upstream = peewee.ForeignKeyField(Upstreams, column_name="upstream_id", on_delete="CASCADE", primary_key=True)
        base_url = peewee.TextField()
        api_key = peewee.TextField(null=True)
        headers = peewee.TextField()
        models_json = peewee.TextField()
        options_json = peewee.TextField()

        class Meta:
            database = db
            table_name = "upstream_connections"

    db.create_tables([UpstreamConnections], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("upstream_connections"))
