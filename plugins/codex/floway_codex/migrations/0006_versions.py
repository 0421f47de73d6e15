"""Changes of accounts and tokens count as changes of the configuration, so that requests keep what they have read."""

TABLES = ("codex_accounts", "codex_health", "codex_tokens")
EVENTS = ("INSERT", "UPDATE", "DELETE")
GROW = "UPDATE configuration_version SET version = version + 1"


def up(migrator, db):
    for table in TABLES:
        for event in EVENTS:
            name = f"{table}_{event.lower()}_version"
            if db.for_update:  # PostgreSQL; the function is core's
                # At the end of the transaction: its lock on the number is the last one, so it causes no deadlock.
                db.execute_sql(
                    f"CREATE CONSTRAINT TRIGGER {name} AFTER {event} ON {table} DEFERRABLE INITIALLY DEFERRED "
                    "FOR EACH ROW EXECUTE FUNCTION floway_grow_version()"
                )
            else:
                db.execute_sql(f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN {GROW}; END")


def down(migrator, db):
    for table in TABLES:
        for event in EVENTS:
            on_table = f" ON {table}" if db.for_update else ""
            db.execute_sql(f"DROP TRIGGER {table}_{event.lower()}_version{on_table}")
