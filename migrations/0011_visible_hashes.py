"""Hashes of histories as clients see them that drop the reasoning."""

import peewee


def up(migrator, db):
    class ApiKeys(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "api_keys"

    class Snapshots(db.Model):
        id = peewee.BigAutoField()

        class Meta:
            table_name = "responses_snapshots"

    class VisibleHashes(db.Model):
        id = peewee.BigAutoField()
        api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE", index=False)
        hash = peewee.CharField(max_length=64)
        snapshot = peewee.ForeignKeyField(Snapshots, column_name="snapshot_id", on_delete="CASCADE")

        class Meta:
            table_name = "responses_visible_hashes"
            indexes = ((("api_key", "hash"), False),)

    db.create_tables([VisibleHashes], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("responses_visible_hashes"))
