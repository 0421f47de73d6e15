"""How large histories are, how much each conversation stores, quotas of keys, and keys that are being deleted."""

# The migrator would copy a table and drop the old one, and with it every row that refers to it.
COLUMNS = (
    ("responses_snapshots", "history_bytes", "BIGINT"),
    ("responses_conversations", "stored_bytes", "BIGINT NOT NULL DEFAULT 0"),
    ("api_keys", "max_stored_bytes", "BIGINT"),
    ("api_keys", "deleted_at", "BIGINT"),
)

INDEX = "responses_conversations_api_key_id_stored_bytes"

# As ``snapshots.ROW_BYTES``.
ROW_BYTES = 200

SIZES = f"""
UPDATE responses_conversations SET stored_bytes = (
    SELECT COALESCE(SUM(LENGTH(s.envelope) + {ROW_BYTES}), 0)
    FROM responses_snapshots s WHERE s.conversation_id = responses_conversations.id
) + (
    SELECT COALESCE(SUM(LENGTH(i.payload) + {ROW_BYTES}), 0)
    FROM responses_snapshots s JOIN responses_items i ON i.snapshot_id = s.id
    WHERE s.conversation_id = responses_conversations.id
)
"""


def up(migrator, db):
    for table, column, kind in COLUMNS:
        db.execute_sql(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
    db.execute_sql(SIZES)
    db.execute_sql(f"CREATE INDEX {INDEX} ON responses_conversations (api_key_id, stored_bytes)")


def down(migrator, db):
    db.execute_sql(f"DROP INDEX {INDEX}")
    for table, column, _ in COLUMNS:
        db.execute_sql(f"ALTER TABLE {table} DROP COLUMN {column}")
