"""Where the upstreams are, and what they are sent."""

import peewee


def up(migrator, db):
    class Upstreams(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "upstreams"

    class Connections(db.Model):
        upstream = peewee.ForeignKeyField(Upstreams, column_name="upstream_id", on_delete="CASCADE", primary_key=True)
        base_url = peewee.TextField()
        api_key = peewee.TextField(null=True)
        headers = peewee.TextField()
        models_json = peewee.TextField()
        prefix = peewee.CharField()
        compacts = peewee.BooleanField()

        class Meta:
            table_name = "openai_connections"

    db.create_tables([Connections], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("openai_connections"))
