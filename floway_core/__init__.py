"""Floway: a self-hosted gateway that speaks the OpenAI Responses API and relays it to pluggable providers."""

__version__ = "0.1.0"
