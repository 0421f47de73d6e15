"""Usage by day, API key, model and upstream."""

import peewee


def up(migrator, db):
    class Usage(db.Model):
        day = peewee.CharField(max_length=10)
        api_key = peewee.TextField()
        model = peewee.TextField()
        upstream = peewee.TextField()
        requests = peewee.BigIntegerField()
        failed_requests = peewee.BigIntegerField()
        input_tokens = peewee.BigIntegerField()
        cached_tokens = peewee.BigIntegerField()
        output_tokens = peewee.BigIntegerField()
        reasoning_tokens = peewee.BigIntegerField()
        cost_usd = peewee.DoubleField()
        unpriced_requests = peewee.BigIntegerField()

        class Meta:
            table_name = "usage"
            primary_key = peewee.CompositeKey("day", "api_key", "model", "upstream")

    db.create_tables([Usage], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("usage"))
