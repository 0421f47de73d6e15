"""The HTTP server: gunicorn for long streams."""
