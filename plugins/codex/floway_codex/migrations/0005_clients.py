"""The clients as which an account's turns have been sent."""

import peewee


def up(migrator, db):
    class Upstreams(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "upstreams"

    class Clients(db.Model):
        upstream = peewee.ForeignKeyField(Upstreams, column_name="upstream_id", on_delete="CASCADE", primary_key=True)
        clients_json = peewee.TextField()

        class Meta:
            table_name = "codex_clients"

    db.create_tables([Clients], safe=False)
    db.execute_sql("INSERT INTO codex_clients (upstream_id, clients_json) SELECT upstream_id, '[]' FROM codex_accounts")


def down(migrator, db):
    migrator.migrate(migrator.drop_table("codex_clients"))
