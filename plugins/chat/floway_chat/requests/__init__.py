"""Requests: from Chat Completions to Responses, for clients, and back, for upstreams. Pure functions."""
