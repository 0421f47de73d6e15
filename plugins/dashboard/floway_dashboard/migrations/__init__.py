"""The schema of the dashboard's own tables."""
