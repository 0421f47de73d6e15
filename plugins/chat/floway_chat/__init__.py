"""Floway plugin: Chat Completions, for clients that speak it and for upstreams that speak it."""

__version__ = "0.1.0"

NAME = "chat"
"""The name of the dialect, and of the provider."""
