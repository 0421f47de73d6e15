"""Passwords, sessions and attempts to sign in."""

import peewee


def up(migrator, db):
    class Passwords(db.Model):
        role = peewee.CharField(primary_key=True, max_length=16)
        hash = peewee.CharField()

        class Meta:
            table_name = "dashboard_passwords"

    class Sessions(db.Model):
        id = peewee.CharField(primary_key=True, max_length=64)
        role = peewee.CharField(max_length=16)
        token_proof = peewee.CharField(null=True, max_length=64)
        address = peewee.CharField(max_length=64)
        created_at = peewee.BigIntegerField()
        expires_at = peewee.BigIntegerField(index=True)
        notice = peewee.TextField(null=True)

        class Meta:
            table_name = "dashboard_sessions"

    class Attempts(db.Model):
        source = peewee.CharField(primary_key=True, max_length=64)
        free_at = peewee.BigIntegerField(index=True)

        class Meta:
            table_name = "dashboard_attempts"

    db.create_tables([Passwords, Sessions, Attempts], safe=False)


def down(migrator, db):
    migrator.migrate(*(migrator.drop_table(f"dashboard_{name}") for name in ("attempts", "sessions", "passwords")))
