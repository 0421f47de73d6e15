"""The HTTP server: gunicorn, adapted for long streams and WebSockets."""
