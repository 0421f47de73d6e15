"""Create the table of connections."""

import peewee
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: peewee.Database) -> None:
    class Upstreams(peewee.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            database = db
            table_name = "upstreams"

    class Connections(peewee.Model):
        upstream = peewee.ForeignKeyField(Upstreams, column_name="upstream_id", on_delete="CASCADE", primary_key=True)
        base_url = peewee.TextField()
        api_key = peewee.TextField(null=True)
        headers = peewee.TextField()
        models_json = peewee.TextField()
        prefix = peewee.CharField()
        compacts = peewee.BooleanField()

        class Meta:
            database = db
            table_name = "openai_connections"

    db.create_tables([Connections], safe=False)


def down(migrator: SchemaMigrator, db: peewee.Database) -> None:
    migrator.migrate(migrator.drop_table("openai_connections"))
