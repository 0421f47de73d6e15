"""Floway plugin: the Anthropic Messages API, for clients and for upstreams."""

__version__ = "0.1.0"
