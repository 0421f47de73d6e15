"""A sealed word, by which a wrong secret key is noticed at once."""

import peewee


def up(migrator, db):
    class SecretChecks(db.Model):
        sealed = peewee.TextField()

        class Meta:
            table_name = "secret_checks"

    db.create_tables([SecretChecks], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("secret_checks"))
