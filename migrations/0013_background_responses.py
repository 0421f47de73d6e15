"""Background responses, and the events of those that stream."""

import peewee


def up(migrator, db):
    class ApiKeys(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "api_keys"

    class BackgroundResponses(db.Model):
        id = peewee.BigAutoField()
        response_id = peewee.CharField(unique=True, max_length=64)
        api_key = peewee.ForeignKeyField(ApiKeys, column_name="api_key_id", on_delete="CASCADE")
        status = peewee.CharField(max_length=16)
        response = peewee.BlobField()
        has_events = peewee.BooleanField()
        created_at = peewee.BigIntegerField(index=True)
        ended_at = peewee.BigIntegerField(null=True)

        class Meta:
            table_name = "background_responses"

    class BackgroundEvents(db.Model):
        id = peewee.BigAutoField()
        response = peewee.ForeignKeyField(
            BackgroundResponses, column_name="background_id", on_delete="CASCADE", index=False
        )
        last_number = peewee.BigIntegerField()
        payload = peewee.BlobField()

        class Meta:
            table_name = "background_events"
            indexes = ((("response", "last_number"), True),)

    db.create_tables([BackgroundResponses, BackgroundEvents], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("background_events"), migrator.drop_table("background_responses"))
