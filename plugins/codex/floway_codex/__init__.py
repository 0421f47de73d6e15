"""Floway plugin for the Codex backend, spoken to with the operator's own ChatGPT account."""

__version__ = "0.1.0"
