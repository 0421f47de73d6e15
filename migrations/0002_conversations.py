"""Conversations: snapshots and their items."""

import peewee


def up(migrator, db):
    class ApiKeys(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "api_keys"

    class Conversations(db.Model):
        id = peewee.BigAutoField()
        api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE")
        used_at = peewee.BigIntegerField(index=True)

        class Meta:
            table_name = "responses_conversations"

    class Snapshots(db.Model):
        id = peewee.BigAutoField()
        response_id = peewee.CharField(unique=True, max_length=64)
        api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE", index=False)
        conversation = peewee.ForeignKeyField(Conversations, column_name="conversation_id", on_delete="CASCADE")
        parent = peewee.ForeignKeyField("self", column_name="parent_id", null=True)
        mode = peewee.CharField(max_length=8)
        depth = peewee.IntegerField()
        ordinal = peewee.IntegerField()
        ordinals = peewee.IntegerField()
        history_hash = peewee.CharField(max_length=64)
        envelope = peewee.BlobField()
        metadata_json = peewee.TextField()
        created_at = peewee.BigIntegerField()
        deleted_at = peewee.BigIntegerField(null=True)

        class Meta:
            table_name = "responses_snapshots"
            indexes = ((("api_key", "history_hash"), False),)

    class Items(db.Model):
        id = peewee.BigAutoField()
        snapshot = peewee.ForeignKeyField(Snapshots, column_name="snapshot_id", on_delete="CASCADE", index=False)
        api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE", index=False)
        position = peewee.IntegerField()
        is_output = peewee.BooleanField()
        item_id = peewee.CharField(null=True)
        upstream_id = peewee.CharField(null=True)
        blob_hash = peewee.CharField(null=True, max_length=64)
        payload = peewee.BlobField()

        class Meta:
            table_name = "responses_items"
            indexes = (
                (("snapshot", "position"), True),
                (("api_key", "item_id"), False),
                (("api_key", "blob_hash"), False),
            )

    db.create_tables([Conversations, Snapshots, Items], safe=False)


def down(migrator, db):
    for table in ("responses_items", "responses_snapshots", "responses_conversations"):
        migrator.migrate(migrator.drop_table(table))
