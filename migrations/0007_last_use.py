"""When an API key was last used, and when an upstream was last tried and how that went."""

COLUMNS = (
    ("api_keys", "last_used_at", "BIGINT"),
    ("upstreams", "tried_at", "BIGINT"),
    ("upstreams", "failure", "TEXT"),
)


def up(migrator, db):
    # The migrator would copy a table and drop the old one, and with it every row that refers to it.
    for table, column, kind in COLUMNS:
        db.execute_sql(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")


def down(migrator, db):
    for table, column, _ in COLUMNS:
        db.execute_sql(f"ALTER TABLE {table} DROP COLUMN {column}")
