"""Floway plugin: Google's generateContent API, for clients and for upstreams."""

__version__ = "0.1.0"
