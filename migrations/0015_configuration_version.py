"""A number that grows with every change of keys, upstreams, connections and aliases, by whatever program it is made."""

TABLES = {
    # The times of last uses are no configuration, and change all the time.
    "api_keys": "last_used_at",
    "upstreams": "tried_at",
    "upstream_connections": None,
    "model_aliases": None,
}
"""The tables, and the column whose changes do not count."""

GROW = "UPDATE configuration_version SET version = version + 1"


def up(migrator, db):
    db.execute_sql("CREATE TABLE configuration_version (id INTEGER NOT NULL PRIMARY KEY, version BIGINT NOT NULL)")
    db.execute_sql("INSERT INTO configuration_version (id, version) VALUES (1, 1)")
    is_sqlite = not db.for_update
    if not is_sqlite:
        body = f"BEGIN {GROW}; RETURN NULL; END"
        db.execute_sql(f"CREATE FUNCTION floway_grow_version() RETURNS trigger LANGUAGE plpgsql AS '{body}'")
    for table, ignored in TABLES.items():
        for event in ("INSERT", "UPDATE", "DELETE"):
            name, when = f"{table}_{event.lower()}_version", ""
            if ignored and event == "UPDATE":
                same = "IS" if is_sqlite else "IS NOT DISTINCT FROM"
                when = f"WHEN (NEW.{ignored} {same} OLD.{ignored})"
            if is_sqlite:
                db.execute_sql(f"CREATE TRIGGER {name} AFTER {event} ON {table} {when} BEGIN {GROW}; END")
            else:
                # At the end of the transaction: its lock on the number is the last one, so it causes no deadlock.
                db.execute_sql(
                    f"CREATE CONSTRAINT TRIGGER {name} AFTER {event} ON {table} DEFERRABLE INITIALLY DEFERRED "
                    f"FOR EACH ROW {when} EXECUTE FUNCTION floway_grow_version()"
                )


def down(migrator, db):
    for table in TABLES:
        for event in ("insert", "update", "delete"):
            on_table = f" ON {table}" if db.for_update else ""
            db.execute_sql(f"DROP TRIGGER {table}_{event}_version{on_table}")
    if db.for_update:
        db.execute_sql("DROP FUNCTION floway_grow_version()")
    migrator.migrate(migrator.drop_table("configuration_version"))
