"""Move the connections to core, which has one table for all providers with a URL and an API key."""

import peewee
from playhouse.migrate import SchemaMigrator

COLUMNS = "upstream_id, base_url, api_key, headers, models_json"


def up(migrator: SchemaMigrator, db: peewee.Database) -> None:
    options = "CASE WHEN compacts THEN '{\"compacts\":true}' ELSE '{\"compacts\":false}' END"
    target = f"upstream_connections ({COLUMNS}, options_json)"
    db.execute_sql(f"INSERT INTO {target} SELECT {COLUMNS}, {options} FROM openai_connections")
    db.execute_sql("DROP TABLE openai_connections")


def down(migrator: SchemaMigrator, db: peewee.Database) -> None:
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
        compacts = peewee.BooleanField()

        class Meta:
            database = db
            table_name = "openai_connections"

    db.create_tables([Connections], safe=False)
    rows = "FROM upstream_connections WHERE upstream_id IN (SELECT id FROM upstreams WHERE kind = 'openai')"
    compacts = "options_json = '{\"compacts\":true}'"
    db.execute_sql(f"INSERT INTO openai_connections ({COLUMNS}, compacts) SELECT {COLUMNS}, {compacts} {rows}")
    db.execute_sql(f"DELETE {rows}")
