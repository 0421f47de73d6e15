"""Move prefixes to core, which has one for each upstream."""

import peewee
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: peewee.Database) -> None:
    own = "SELECT prefix FROM openai_connections WHERE upstream_id = upstreams.id"
    db.execute_sql(f"UPDATE upstreams SET prefix = ({own}) WHERE EXISTS ({own})")
    db.execute_sql("ALTER TABLE openai_connections DROP COLUMN prefix")


def down(migrator: SchemaMigrator, db: peewee.Database) -> None:
    db.execute_sql("ALTER TABLE openai_connections ADD COLUMN prefix VARCHAR(255) NOT NULL DEFAULT ''")
    core = "SELECT prefix FROM upstreams WHERE id = upstream_id"
    db.execute_sql(f"UPDATE openai_connections SET prefix = ({core})")
    db.execute_sql("UPDATE upstreams SET prefix = '' WHERE id IN (SELECT upstream_id FROM openai_connections)")
