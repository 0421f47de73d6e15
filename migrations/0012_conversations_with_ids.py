"""Ids, metadata, heads and locks of conversations, and leases of running turns."""

import peewee

TABLE = "responses_conversations"

# The migrator would copy the table and drop the old one, and with it every row that refers to it.
COLUMNS = (
    ("public_id", "VARCHAR(64)"),
    ("created_at", "BIGINT"),
    ("metadata_json", "TEXT"),
    ("head_id", "BIGINT"),
    ("locked_by", "VARCHAR(64)"),
)

INDEX = "responses_conversations_public_id"


def up(migrator, db):
    class ApiKeys(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "api_keys"

    class TurnLeases(db.Model):
        id = peewee.CharField(primary_key=True, max_length=64)
        api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE")
        expires_at = peewee.BigIntegerField()

        class Meta:
            table_name = "turn_leases"

    for column, kind in COLUMNS:
        db.execute_sql(f"ALTER TABLE {TABLE} ADD COLUMN {column} {kind}")
    db.execute_sql(f"CREATE UNIQUE INDEX {INDEX} ON {TABLE} (public_id)")
    db.create_tables([TurnLeases], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("turn_leases"))
    db.execute_sql(f"DROP INDEX {INDEX}")
    for column, _ in COLUMNS:
        db.execute_sql(f"ALTER TABLE {TABLE} DROP COLUMN {column}")
