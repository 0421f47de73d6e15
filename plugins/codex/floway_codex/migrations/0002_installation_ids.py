"""No account without an installation id: one that lacks it gets one, and the table refuses it from now on."""

import uuid

import peewee

LENGTH = 36
"""Of a UUID as text."""


def up(migrator, db):
    _rebuild(db, [peewee.Check(f"length(installation_id) = {LENGTH}")])


def down(migrator, db):
    _rebuild(db, [])


def _rebuild(db, constraints):
    """SQLite cannot add a constraint to a table that is there. No other table refers to this one."""

    class Upstreams(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "upstreams"

    class Accounts(db.Model):
        upstream = peewee.ForeignKeyField(Upstreams, column_name="upstream_id", on_delete="CASCADE", primary_key=True)
        account_id = peewee.CharField(unique=True)
        user_id = peewee.CharField()
        email = peewee.CharField()
        plan = peewee.CharField()
        installation_id = peewee.CharField(constraints=constraints)
        imported_at = peewee.BigIntegerField()

        class Meta:
            table_name = "codex_accounts"

    rows = list(Accounts.select().dicts())
    for row in rows:
        if len(row["installation_id"]) != LENGTH:
            row["installation_id"] = str(uuid.uuid4())
    db.drop_tables([Accounts], safe=False)
    db.create_tables([Accounts], safe=False)
    for row in rows:
        Accounts.insert(row).execute()
