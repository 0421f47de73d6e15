"""Floway: a self-hosted gateway for large language models, with plugins for providers and API formats."""

__version__ = "0.1.0"
