"""The model lists of the upstreams: from the backend, through the database, in memory."""
