"""Indexes without the rows that nobody looks up: each index that a stored turn need not touch saves a page to write."""

PARTIAL = (
    ("items_api_key_id_blob_hash", "responses_items", "api_key_id, blob_hash", "blob_hash", ""),
    ("snapshots_parent_id", "responses_snapshots", "parent_id", "parent_id", ""),
    ("responses_conversations_public_id", "responses_conversations", "public_id", "public_id", "UNIQUE "),
)
"""Name, table, columns, the column that is NULL in most rows, and the kind of the index."""


def up(migrator, db):
    for name, table, columns, column, kind in PARTIAL:
        db.execute_sql(f"DROP INDEX {name}")
        db.execute_sql(f"CREATE {kind}INDEX {name} ON {table} ({columns}) WHERE {column} IS NOT NULL")
    db.execute_sql("DROP INDEX conversations_api_key_id")  # the one on (api_key_id, stored_bytes) begins with it


def down(migrator, db):
    for name, table, columns, _, kind in PARTIAL:
        db.execute_sql(f"DROP INDEX {name}")
        db.execute_sql(f"CREATE {kind}INDEX {name} ON {table} ({columns})")
    db.execute_sql("CREATE INDEX conversations_api_key_id ON responses_conversations (api_key_id)")
