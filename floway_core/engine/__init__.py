"""Serving one request: choose a candidate, try it, relay or collect its response."""
