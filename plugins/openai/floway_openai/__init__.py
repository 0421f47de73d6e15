"""Floway plugin: upstreams that speak the OpenAI Responses API with an API key."""

__version__ = "0.1.0"
