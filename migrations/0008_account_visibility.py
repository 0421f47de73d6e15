"""API keys that show what upstreams tell of the account behind the gateway."""

import peewee


def up(migrator, db):
    migrator.migrate(migrator.add_column("api_keys", "shows_account", peewee.BooleanField(null=True)))


def down(migrator, db):
    migrator.migrate(migrator.drop_column("api_keys", "shows_account", cascade=False))
