"""Model aliases, and prefixes by which the models of upstreams are told apart."""

import peewee


def up(migrator, db):
    class Aliases(db.Model):
        name = peewee.CharField(primary_key=True)
        targets_json = peewee.TextField()
        effort = peewee.CharField(null=True)
        verbosity = peewee.CharField(null=True)
        service_tier = peewee.CharField(null=True)

        class Meta:
            table_name = "model_aliases"

    # The migrator would copy the table and drop the old one, and with it every row that refers to an upstream.
    db.execute_sql("ALTER TABLE upstreams ADD COLUMN prefix VARCHAR(255) NOT NULL DEFAULT ''")
    db.create_tables([Aliases], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("model_aliases"))
    db.execute_sql("ALTER TABLE upstreams DROP COLUMN prefix")
