"""The database: connections, schema, migrations, and the tables of core except for conversations."""
