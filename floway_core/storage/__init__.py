"""The database: its schema, and the rows of core that outlive a request."""
