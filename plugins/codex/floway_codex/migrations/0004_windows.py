"""The counters that give windows their numbers."""

import peewee


def up(migrator, db):
    class ApiKeys(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "api_keys"

    class Windows(db.Model):
        first_response_id = peewee.CharField(primary_key=True, max_length=64)
        api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE")
        last_number = peewee.BigIntegerField()
        used_at = peewee.BigIntegerField(index=True)

        class Meta:
            table_name = "codex_windows"

    db.create_tables([Windows], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("codex_windows"))
