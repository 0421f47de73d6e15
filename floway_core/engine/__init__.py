"""Serving one request: choosing a candidate, trying it, relaying or collecting its answer."""
