"""Budgets of API keys and of groups of them, and what these have spent."""

import peewee

COLUMNS = {
    "day_budget": peewee.BigIntegerField,
    "month_budget": peewee.BigIntegerField,
    "allows_unpriced": peewee.BooleanField,
}

EVENTS = ("INSERT", "UPDATE", "DELETE")
"""The changes of groups that let the number of migration 0015 grow."""


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
    for event in EVENTS:
        name = f"key_groups_{event.lower()}_version"
        if db.for_update:  # not SQLite
            db.execute_sql(
                f"CREATE CONSTRAINT TRIGGER {name} AFTER {event} ON key_groups DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION floway_grow_version()"
            )
        else:
            grow = "UPDATE configuration_version SET version = version + 1"
            db.execute_sql(f"CREATE TRIGGER {name} AFTER {event} ON key_groups BEGIN {grow}; END")


def down(migrator, db):
    db.execute_sql("DROP INDEX api_keys_group_id")  # SQLite drops no column that has one
    columns = ("group_id", *COLUMNS)
    migrator.migrate(*(migrator.drop_column("api_keys", name, cascade=False) for name in columns))
    # the triggers go with the table
    migrator.migrate(migrator.drop_table("budget_spending"), migrator.drop_table("key_groups"))
