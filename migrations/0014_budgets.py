"""Budgets of API keys and of groups of them, and what these have spent."""

import peewee

COLUMNS = {
    "day_budget": peewee.BigIntegerField,
    "month_budget": peewee.BigIntegerField,
    "allows_unpriced": peewee.BooleanField,
}


def up(migrator, db):
    class KeyGroups(db.Model):
        id = peewee.CharField(primary_key=True)
        name = peewee.CharField(unique=True)
        created_at = peewee.BigIntegerField()
        day_budget = peewee.BigIntegerField(null=True)
        month_budget = peewee.BigIntegerField(null=True)
        allows_unpriced = peewee.BooleanField(null=True)

        class Meta:
            table_name = "key_groups"

    class Spending(db.Model):
        holder_id = peewee.CharField()
        day = peewee.IntegerField()
        spent = peewee.BigIntegerField()
        unpriced_requests = peewee.BigIntegerField()

        class Meta:
            table_name = "budget_spending"
            primary_key = peewee.CompositeKey("holder_id", "day")

    db.create_tables([KeyGroups, Spending], safe=False)
    group = peewee.ForeignKeyField(KeyGroups, field=KeyGroups.id, null=True)
    migrator.migrate(
        *(migrator.add_column("api_keys", name, kind(null=True)) for name, kind in COLUMNS.items()),
        migrator.add_column("api_keys", "group_id", group),
    )


def down(migrator, db):
    columns = ("group_id", *COLUMNS)
    migrator.migrate(*(migrator.drop_column("api_keys", name, cascade=False) for name in columns))
    migrator.migrate(migrator.drop_table("budget_spending"), migrator.drop_table("key_groups"))
