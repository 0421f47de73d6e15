"""Times until first bytes, and the latest requests."""

import peewee


def up(migrator, db):
    class FirstBytes(db.Model):
        dimension = peewee.CharField(max_length=8)
        name = peewee.TextField()
        day = peewee.CharField(max_length=10)
        bucket = peewee.IntegerField()
        requests = peewee.BigIntegerField()

        class Meta:
            table_name = "dashboard_first_bytes"
            primary_key = peewee.CompositeKey("dimension", "name", "day", "bucket")

    class Requests(db.Model):
        id = peewee.CharField(primary_key=True, max_length=64)
        worker = peewee.CharField(max_length=64)
        is_running = peewee.BooleanField()
        started_at = peewee.DoubleField(index=True)
        seen_at = peewee.BigIntegerField()
        api_key = peewee.TextField(null=True)
        model = peewee.TextField(null=True)
        upstream = peewee.TextField(null=True)
        dialect = peewee.TextField()
        client = peewee.TextField(null=True)
        status = peewee.IntegerField(null=True)
        outcome = peewee.TextField(null=True)
        error = peewee.TextField(null=True)
        seconds = peewee.DoubleField(null=True)
        first_byte_seconds = peewee.DoubleField(null=True)
        input_tokens = peewee.BigIntegerField(null=True)
        cached_tokens = peewee.BigIntegerField(null=True)
        output_tokens = peewee.BigIntegerField(null=True)

        class Meta:
            table_name = "dashboard_requests"

    db.create_tables([FirstBytes, Requests], safe=False)


def down(migrator, db):
    migrator.migrate(*(migrator.drop_table(f"dashboard_{name}") for name in ("requests", "first_bytes")))
